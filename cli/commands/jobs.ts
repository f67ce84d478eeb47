import { Command, Option } from 'commander';

import { messageOf, UserError } from '../../base/errors.js';
import type { components } from '../../server/http/openapi.js';
import { integerFrom } from '../options.js';
import { progressBar } from '../progress.js';
import { callServer, serverCommands, type ServerOptions } from '../server-client.js';

type Job = components['schemas']['Job'];

const ENDED = ['done', 'failed', 'cancelled'];

export function jobsCommand(): Command {
  const command = new Command('jobs').description('Training jobs of a running server: start, watch, cancel.');
  const sub = serverCommands(command);

  sub('list', 'All jobs.')
    .option('--json', "print the server's answer")
    .action(async (options: ServerOptions & { json?: boolean }) => {
      const { jobs } = (await (await callServer(options, 'GET', '/finetune')).json()) as { jobs: Job[] };
      if (options.json) console.log(JSON.stringify({ jobs }));
      else for (const job of jobs) console.log(lineOf(job));
      if (!options.json && jobs.length === 0) console.error('there are no jobs');
    });

  sub('start', 'Fine-tune the live model on the collection.')
    .option('--preset <name>', 'the recipe, as finetune has it')
    .option('--set <key=value...>', 'change a setting of the recipe', [])
    .addOption(
      new Option('--activate <policy>', 'who puts the new model live')
        .choices(['manual', 'if-better'])
        .default('manual'),
    )
    .option('--margin <fraction>', 'by how much map@100 has to be better', Number, 0)
    .option('--watch', 'show it until it has ended')
    .action(async (options: StartOptions) => {
      const { preset, activate, margin } = options;
      const settings = Object.fromEntries(options.set.map(settingOf));
      const request = { preset, settings, activate, margin };
      const job = (await (await callServer(options, 'POST', '/finetune', request)).json()) as Job;
      if (options.watch) await watch(options, job.id);
      else console.log(lineOf(job));
    });

  const number = ['<id>', "the job's number", integerFrom(1, 2 ** 31 - 1)] as const;
  sub('show', 'What a job is doing, or what came of it.')
    .argument(...number)
    .option('--json', "print the server's answer")
    .action(async (id: number, options: ServerOptions & { json?: boolean }) => {
      const job = (await (await callServer(options, 'GET', `/finetune/${id}`)).json()) as Job;
      if (options.json) console.log(JSON.stringify(job));
      else if (job.verdict)
        console.log(
          await (
            await callServer(options, 'GET', `/finetune/${id}/report`, undefined, 'text/markdown')
          ).text(),
        );
      else console.log(lineOf(job));
    });

  sub('watch', 'Show a job until it has ended.')
    .argument(...number)
    .action((id: number, options: ServerOptions) => watch(options, id));

  sub('cancel', 'End a job, and remove what it has made.')
    .argument(...number)
    .action(async (id: number, options: ServerOptions) => {
      console.log(lineOf((await (await callServer(options, 'DELETE', `/finetune/${id}`)).json()) as Job));
    });

  return command.addHelpText(
    'after',
    `
Examples:
  sentence-jepa jobs start --set context=Ubuntu --activate if-better --watch
  sentence-jepa jobs list
  sentence-jepa jobs show 3`,
  );
}

interface StartOptions extends ServerOptions {
  preset?: string;
  set: string[];
  activate: string;
  margin: number;
  watch?: boolean;
}

/** @throws UserError `usage` */
function settingOf(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new UserError('usage', `--set: expected key=value, found ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A bar for each step of the job, then its report. Exit code 1 when it failed or was cancelled. */
async function watch(options: ServerOptions, id: number): Promise<void> {
  let bar = progressBar('', '');
  let state = '';
  let last: Job | undefined;
  try {
    for await (const job of eventsOf(options, id)) {
      last = job;
      const { training, embedding } = job;
      if (job.state !== state) {
        bar.stop();
        console.error(job.state);
        bar = progressBar(job.state, job.state === 'training' ? 'steps' : 'documents');
        state = job.state;
      }
      if (training) bar.update(training.step, training.steps);
      if (embedding) bar.update(embedding.done, embedding.total);
    }
  } finally {
    bar.stop();
  }
  if (!last || !ENDED.includes(last.state))
    throw new UserError('unavailable', `the server stopped; job ${id} goes on when it is back`);
  if (last.state !== 'done') {
    console.error(lineOf(last));
    process.exitCode = 1;
    return;
  }
  const report = await callServer(options, 'GET', `/finetune/${id}/report`, undefined, 'text/markdown');
  console.log(await report.text());
}

/** The job, whenever it has changed, until it has ended or the server goes away. */
async function* eventsOf(options: ServerOptions, id: number): AsyncGenerator<Job> {
  const response = await callServer(options, 'GET', `/finetune/${id}/events`, undefined, 'text/event-stream');
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of response.body!) {
      const events = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n\n');
      rest = events.pop()!;
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event)?.[1];
        if (data !== undefined && /^event: job$/m.test(event)) yield JSON.parse(data) as Job;
      }
    }
  } catch (error) {
    throw new UserError('unavailable', `the server went away (${messageOf(error)})`);
  }
}

function lineOf({ id, state, created, error, verdict, training, embedding }: Job): string {
  const where = training
    ? `step ${training.step} of ${training.steps}`
    : embedding
      ? `${embedding.done} of ${embedding.total} documents`
      : '';
  return [
    `${id}`.padEnd(4),
    state.padEnd(10),
    created.slice(0, 16).replace('T', ' '),
    error ?? (verdict ? `${verdict.candidate} ${verdict.decision}: ${verdict.reason}` : where),
  ].join(' ');
}
