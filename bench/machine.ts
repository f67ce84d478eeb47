import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';

import { projectRoot } from '../base/paths.js';

/** What figures depend on and a reader can't see from them. */
export interface Machine {
  cpu: string;
  cores: number;
  /** Of the instruction sets that matrix products use, those that are there. Linux says; elsewhere empty. */
  instructions: string[];
  memoryGiB: number;
  /** Processes running or waiting, over the last minute, when the benchmark began. */
  load: number;
  platform: string;
  versions: Record<string, string>;
}

const INSTRUCTIONS = ['avx2', 'avx512f', 'avx_vnni', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8'];
const PACKAGES = {
  'onnxruntime-node': 'onnxruntime-node',
  'transformers.js': '@xenova/transformers',
  'tfjs-node': '@tensorflow/tfjs-node',
};

export function machine(): Machine {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const [label, name] of Object.entries(PACKAGES)) versions[label] = installed(name) ?? 'not installed';
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    instructions: instructions(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    load: Math.round(loadavg()[0] * 10) / 10,
    platform: `${process.platform} ${process.arch}`,
    versions,
  };
}

/** One line for above a table. */
export function machineLine({
  cpu,
  cores,
  instructions,
  memoryGiB,
  load,
  platform,
  versions,
}: Machine): string {
  return [
    `${cpu}, ${cores} ${cores === 1 ? 'core' : 'cores'}`,
    instructions.join(' ') || 'instruction sets unknown',
    `${memoryGiB} GiB`,
    platform,
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
    `load ${load} at the start`,
  ].join(' · ');
}

function installed(name: string): string | undefined {
  try {
    const file = path.join(projectRoot, 'node_modules', name, 'package.json');
    return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  } catch {
    return undefined;
  }
}

function instructions(): string[] {
  try {
    const flags = /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    const there = new Set(flags?.[1].split(' '));
    return INSTRUCTIONS.filter((name) => there.has(name));
  } catch {
    return [];
  }
}
