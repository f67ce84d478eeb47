import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Script } from 'node:vm';

import { load } from 'js-yaml';

import { projectRoot } from '../base/paths.js';
import { backupCommand } from '../cli/commands/backup.js';
import { migrateCommand } from '../cli/commands/migrate.js';
import { finetuneCommand } from '../cli/commands/finetune.js';
import { jobsCommand } from '../cli/commands/jobs.js';
import { restoreCommand } from '../cli/commands/restore.js';
import { serveCommand } from '../cli/commands/serve.js';
import { workerCommand } from '../cli/commands/worker.js';
import { verifyCommand } from '../cli/commands/verify.js';
import { defaults } from '../server/config.js';
import { statusOf } from '../server/http/errors.js';
import { createMetrics } from '../server/metrics.js';

const read = (file: string): string => readFileSync(path.join(projectRoot, file), 'utf8');
const page = read('docs/OPERATIONS.md');
const unit = read('examples/deploy/sentence-jepa.service');
const compose = load(read('examples/deploy/compose.yaml')) as {
  services: Record<
    string,
    {
      environment?: Record<string, unknown>;
      volumes: string[];
      secrets: string[];
      tmpfs?: string[];
      read_only?: boolean;
      stop_grace_period?: string;
      healthcheck?: { test: string[] };
    }
  >;
  secrets: Record<string, { file: string }>;
  volumes: Record<string, unknown>;
};
const options = serveCommand().options;
/** First cells of a table's rows. */
const firstCells = (heading: string): string[] => {
  const section = page.slice(page.indexOf(`\n## ${heading}\n`) + 1);
  const rows = section.slice(0, section.indexOf('\n## ', 1)).matchAll(/^\| (.+?) \|/gm);
  return Array.from(rows, ([, cell]) => cell).slice(1);
};

describe('docs/OPERATIONS.md', () => {
  it('lists every metric by its type, and no other', async () => {
    const text = await createMetrics(() => undefined, { refuses: false }).text();
    const made = Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => `${name} ${type}`);
    const listed = Array.from(
      page.matchAll(/^\| `(\w+)` \| (counter|gauge|histogram) \|/gm),
      ([, name, type]) => `${name} ${type}`,
    );
    assert.deepEqual(listed.sort(), made.filter((name) => !/^(process|nodejs)_/.test(name)).sort());
  });

  it('explains every status that an error has', () => {
    const explained = firstCells('What a status means').flatMap((cell) => cell.split(', ').map(Number));
    assert.deepEqual(explained.sort(), [...new Set(Object.values(statusOf))].sort());
  });

  it('names no option that is not there', () => {
    const known = [
      ...[
        serveCommand(),
        workerCommand(),
        backupCommand(),
        restoreCommand(),
        verifyCommand(),
        migrateCommand(),
        finetuneCommand(),
      ],
      ...jobsCommand().commands,
    ].flatMap((command) => command.options.map(({ long }) => long));
    const named = [...page.replace(/^curl .*$/gm, '').matchAll(/(?<![\w-])--[a-z][a-z-]+/g)].map(
      ([name]) => name,
    );
    assert.ok(named.length > 20);
    for (const name of named) assert.ok(name === '--help' || known.includes(name), name);
  });
});

/** What of the environment the program does not know. */
function unknownVariables(names: readonly string[]): string[] {
  const known = [...options.map(({ envVar }) => envVar), 'SENTENCE_JEPA_CACHE', 'NODE_ENV'];
  return names.filter((name) => !known.includes(name));
}

describe('examples/deploy', () => {
  it('sets options that the server has', () => {
    const ofUnit = Array.from(unit.matchAll(/^Environment=(\w+)=/gm), ([, name]) => name);
    assert.ok(ofUnit.length > 3);
    assert.deepEqual(unknownVariables(ofUnit), []);
    assert.deepEqual(unknownVariables(Object.keys(compose.services['sentence-jepa'].environment ?? {})), []);
  });

  it("says how what the unit's cache folder lacks is compiled there", () => {
    const [, folder] = /^Environment=SENTENCE_JEPA_CACHE=%C\/(\S+)$/m.exec(unit)!;
    const commands = unit.matchAll(/^# +SENTENCE_JEPA_CACHE=\/var\/cache\/(\S+) (npm run setup.*)$/gm);
    assert.deepEqual(
      Array.from(commands, ([, ...command]) => command),
      [
        [folder, 'npm run setup'],
        [folder, 'npm run setup -- --search'],
      ],
    );
  });

  it('waits longer than requests in flight may take before the process is killed', () => {
    const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1]);
    assert.ok(seconds > defaults.drainSeconds);
    assert.ok(parseInt(compose.services['sentence-jepa'].stop_grace_period!) > defaults.drainSeconds);
  });

  it('has a compose file whose volumes and secrets are declared, and a probe of /ready', () => {
    for (const [name, { volumes, secrets }] of Object.entries(compose.services)) {
      for (const volume of volumes) {
        const [source] = volume.split(':');
        if (source.startsWith('./')) read(path.join('examples/deploy', source));
        else assert.ok(source in compose.volumes, `${name}: ${source}`);
      }
      for (const secret of secrets) assert.ok(secret in compose.secrets, `${name}: ${secret}`);
    }
    const { read_only, healthcheck, environment, secrets } = compose.services['sentence-jepa'];
    assert.equal(read_only, true);
    assert.equal(environment!.SENTENCE_JEPA_API_KEY_FILE, `/run/secrets/${secrets[0]}`);
    const [kind, command, flag, script] = healthcheck!.test;
    assert.deepEqual([kind, command, flag], ['CMD', 'node', '-e']);
    assert.match(script, /127\.0\.0\.1:3000\/ready/);
    // Throws unless it is a script.
    new Script(script);
  });

  it('lets Prometheus ask the server with the key that it has', () => {
    const [job] = (
      load(read('examples/deploy/prometheus.yml')) as {
        scrape_configs: {
          authorization: { credentials_file: string };
          static_configs: { targets: string[] }[];
        }[];
      }
    ).scrape_configs;
    assert.equal(
      job.authorization.credentials_file,
      `/run/secrets/${compose.services.prometheus.secrets[0]}`,
    );
    const [host] = job.static_configs[0].targets[0].split(':');
    assert.ok(host in compose.services);
  });

  it('keeps the keys out of the repository and of the image', () => {
    const ignored = read('.gitignore').split('\n');
    for (const { file } of Object.values(compose.secrets))
      assert.ok(ignored.includes(path.join('examples/deploy', file)), file);
    assert.equal(read('.dockerignore').trimEnd().split('\n').at(-1), 'examples/deploy');
  });

  const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;
  it('has a unit that systemd takes', { skip: !hasSystemd && 'no systemd-analyze here' }, () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'sentence-jepa-unit-'));
    try {
      const file = path.join(folder, 'sentence-jepa.service');
      writeFileSync(
        file,
        unit.replace('/usr/bin/node', process.execPath).replace('/opt/sentence-jepa', projectRoot),
      );
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
      const ours = stderr.split('\n').filter((line) => line.includes('sentence-jepa'));
      assert.deepEqual([status, ours], [0, []], stderr);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
