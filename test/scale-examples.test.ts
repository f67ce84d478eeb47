import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Script } from 'node:vm';

import { load, loadAll, YAML11_SCHEMA } from 'js-yaml';

import { checkNginx, nginxConfig, withoutNginx } from '../bench/nginx.js';
import { projectRoot } from '../base/paths.js';
import { serveCommand } from '../cli/commands/serve.js';
import { workerCommand } from '../cli/commands/worker.js';
import { defaults } from '../server/config.js';
import { allOperations } from '../server/http/spec.js';
import { createMetrics } from '../server/metrics.js';

const folder = path.join(projectRoot, 'examples/scale');
const read = (file: string): string => readFileSync(path.join(folder, file), 'utf8');

/** Whether a command has what the environment and its arguments say. @param args of the image; it serves without */
function assertKnown(names: readonly string[], [name, ...args]: readonly string[] = ['serve']): void {
  const command = { serve: serveCommand, worker: workerCommand }[name]!();
  // Throws for an option that it does not know.
  command
    .exitOverride()
    .action(() => undefined)
    .parse(args, { from: 'user' });
  const known = command.options.map(({ envVar }) => envVar);
  assert.ok(names.length > 1);
  for (const name of names) assert.ok(known.includes(name), name);
}

interface ComposeService {
  command?: string[];
  environment?: Record<string, unknown>;
  volumes?: string[];
  secrets?: string[];
  depends_on?: Record<string, { condition: string }>;
  stop_grace_period?: string;
  healthcheck?: { test: string[] };
  read_only?: boolean;
}

describe('the compose file of several servers', () => {
  // Compose reads YAML 1.1, which has <<.
  const { services, secrets, volumes } = load(read('compose.yaml'), {
    schema: YAML11_SCHEMA,
  }) as {
    services: Record<string, ComposeService>;
    secrets: Record<string, { file: string }>;
    volumes: Record<string, unknown>;
  };
  const programs = Object.entries(services).filter(([name]) => !['nginx', 'postgres'].includes(name));

  it('sets options that the program has, and has all that it names', () => {
    for (const [name, service] of Object.entries(services)) {
      for (const secret of service.secrets ?? []) assert.ok(secret in secrets, `${name}: ${secret}`);
      for (const volume of service.volumes ?? []) {
        const [source] = volume.split(':');
        if (source.startsWith('./')) read(source);
        else assert.ok(source in volumes, `${name}: ${source}`);
      }
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        assert.equal(condition, 'service_healthy');
        assert.ok(services[other].healthcheck, `${name} waits for ${other}, whose health nobody asks`);
      }
    }
    assert.deepEqual(
      programs.map(([, { command = ['serve'] }]) => command),
      [
        ...[['serve'], ['serve']],
        ...[
          ['worker', '--jobs', 'ingest'],
          ['worker', '--jobs', 'ingest'],
          ['worker', '--jobs', 'training'],
        ],
      ],
    );
    for (const [, { command, environment, read_only, healthcheck, stop_grace_period }] of programs) {
      assertKnown(Object.keys(environment!), command);
      assert.equal(read_only, true);
      assert.ok(parseInt(stop_grace_period!) > defaults.drainSeconds);
      // Throws unless it is a script.
      new Script(healthcheck!.test[3]);
    }
  });

  it('keeps the keys out of the repository and of the image', () => {
    const lines = (file: string): string[] => readFileSync(path.join(projectRoot, file), 'utf8').split('\n');
    for (const file of [...Object.values(secrets).map((secret) => secret.file), '.env'])
      assert.ok(lines('.gitignore').includes(path.posix.join('examples/scale', file)), file);
    assert.ok(lines('.dockerignore').indexOf('examples/scale') > lines('.dockerignore').indexOf('!examples'));
  });

  it('has nginx ask the servers that there are', () => {
    const asked = Array.from(read('nginx.conf').matchAll(/^\s*server ([\w-]+):3000 /gm), ([, name]) => name);
    assert.deepEqual(
      asked,
      programs.map(([name]) => name).filter((name) => name.startsWith('server')),
    );
  });
});

describe('the configuration of nginx', () => {
  const config = read('nginx.conf');

  it('is one that nginx takes', { skip: withoutNginx }, () => {
    const scratch = mkdtempSync(path.join(tmpdir(), 'nginx-'));
    try {
      const check = (text: string): string | undefined => checkNginx(scratch, text);
      const real = nginxConfig(scratch, { listen: 8080, servers: [3000, 3001, 3002] });
      assert.equal(check(real), undefined);
      assert.match(check(real.replace('least_conn', 'most_conn')) ?? '', /most_conn/);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });

  it('has every POST repeated that changes nothing, and no other', () => {
    const [, pattern] = /location ~ (\S+) \{\s*proxy_next_upstream [^;]*non_idempotent/.exec(config)!;
    const repeated = (name: string): boolean => new RegExp(pattern).test(name);
    for (const { method, path: route, scope } of allOperations)
      if (method === 'post') assert.equal(repeated(route), scope === 'read', route);
  });

  it('lets streams of any length through', () => {
    const [, pattern] = /location ~ (\S+) \{\s*client_max_body_size 0;\s*proxy_request_buffering off;/.exec(
      config,
    )!;
    for (const { path: route, takesNdjson } of allOperations.filter(({ method }) => method === 'post'))
      assert.equal(new RegExp(pattern).test(route), takesNdjson, route);
  });

  it('lets as large bodies through as a server takes, and keeps connections for less long', () => {
    const [, mib] = /client_max_body_size (\d+)m;/.exec(config)!;
    assert.ok(Number(mib) > defaults.maxBodyMib);
    const [, seconds] = /keepalive_timeout (\d+)s;/.exec(config)!;
    assert.ok(Number(seconds) < 65);
  });
});

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  spec: any;
}

describe('the manifests for Kubernetes', () => {
  const manifests = loadAll(read('kubernetes.yaml')) as Manifest[];
  const ofKind = (kind: string): Manifest[] => manifests.filter((each) => each.kind === kind);
  const deployments = ofKind('Deployment');

  it('have a budget and an autoscaler for all but the one trainer, and a service whose port is there', () => {
    const versions: Record<string, string> = {
      Deployment: 'apps/v1',
      Service: 'v1',
      PodDisruptionBudget: 'policy/v1',
      HorizontalPodAutoscaler: 'autoscaling/v2',
    };
    for (const { kind, apiVersion } of manifests) assert.equal(apiVersion, versions[kind], kind);
    const scaled = deployments.filter(({ spec }) => spec.replicas === undefined);
    const names = scaled.map(({ metadata }) => metadata.name);
    assert.deepEqual(names, ['sentence-jepa', 'sentence-jepa-worker']);
    assert.deepEqual(
      ofKind('HorizontalPodAutoscaler').map(({ spec }) => spec.scaleTargetRef.name),
      names,
    );
    const labels = scaled.map(({ spec }) => spec.template.metadata.labels);
    assert.deepEqual(
      ofKind('PodDisruptionBudget').map(({ spec }) => spec.selector.matchLabels),
      labels,
    );
    for (const { spec } of deployments)
      assert.deepEqual(spec.selector.matchLabels, spec.template.metadata.labels);
    const [{ spec: service }] = ofKind('Service');
    assert.deepEqual(service.selector, labels[0]);
    const ports = deployments[0].spec.template.spec.containers[0].ports as { name: string }[];
    assert.deepEqual(
      ports.map(({ name }) => name),
      service.ports.map(({ targetPort }: { targetPort: string }) => targetPort),
    );
  });

  it('set options that the program has, probe routes that it has, and wait until requests are answered', () => {
    for (const { spec } of deployments) {
      const pod = spec.template.spec;
      const [container] = pod.containers;
      assertKnown(
        container.env.map(({ name }: { name: string }) => name),
        container.args,
      );
      const routes = allOperations.map((operation) => operation.path);
      for (const probe of [container.readinessProbe, container.livenessProbe])
        assert.ok(routes.includes(probe.httpGet.path), probe.httpGet.path);
      assert.ok(container.livenessProbe.timeoutSeconds > defaults.healthSeconds);
      // A worker is sent no requests that it had to wait for.
      const [milliseconds = '0'] = container.lifecycle?.preStop.exec.command[2].match(/[\d_]+(?=\))/) ?? [];
      const waits = Number(milliseconds.replace('_', '')) / 1000;
      assert.ok(pod.terminationGracePeriodSeconds > waits + defaults.drainSeconds);
    }
  });

  it('run as nobody in particular, on nothing that can be written but scratch', () => {
    for (const { spec } of deployments) {
      const pod = spec.template.spec;
      assert.deepEqual([pod.securityContext.runAsNonRoot, pod.automountServiceAccountToken], [true, false]);
      for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        const { allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities } = container.securityContext;
        assert.deepEqual(
          [allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities.drop],
          [false, true, ['ALL']],
        );
        const volumes = pod.volumes.map(({ name }: { name: string }) => name);
        for (const { name } of container.volumeMounts) assert.ok(volumes.includes(name), name);
      }
    }
  });
});

describe('the dashboard for Grafana', () => {
  const dashboard = JSON.parse(read('grafana-dashboard.json')) as {
    panels: {
      id: number;
      type: string;
      gridPos: { x: number; y: number; w: number; h: number };
      targets?: { expr: string }[];
    }[];
  };

  it('asks for metrics that the program has', async () => {
    const text = await createMetrics(() => undefined, { refuses: false }).text();
    const types = new Map(
      Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => [name, type]),
    );
    const exprs = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    assert.ok(exprs.length > 20);
    for (const expr of exprs) {
      const named = [...expr.matchAll(/\b([a-z]\w*)\{/g)].map(([, name]) => name);
      assert.ok(named.length > 0, expr);
      for (const name of named) {
        const histogram = name.replace(/_(bucket|count|sum)$/, '');
        assert.ok(types.has(name) || types.get(histogram) === 'histogram', name);
      }
    }
  });

  it('has panels that do not lie on each other, each with an id of its own', () => {
    const { panels } = dashboard;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    );
    assert.equal(new Set(cells).size, cells.length);
    assert.ok(panels.every(({ gridPos: { x, w } }) => x + w <= 24));
  });
});
