import type { TensorFlowBackend, TensorFlowBinding, TF } from '../trainer/tensorflow/binding.js';
import { Ops } from '../trainer/tensorflow/ops.js';
import { PEAK_SIZE, peakOf } from './peak.js';

export interface KernelTime {
  /** TensorFlow's name. */
  kernel: string;
  calls: number;
  milliseconds: number;
}

/**
 * How long each of TensorFlow's kernels takes while something runs, the largest first. Kernels on processors are done
 * when their call returns.
 */
export async function timeKernels(
  backend: TensorFlowBackend,
  run: () => Promise<void>,
): Promise<KernelTime[]> {
  const times = new Map<string, KernelTime>();
  const { binding } = backend;
  const timed = <T>(kernel: string, run: () => T): T => {
    const begun = performance.now();
    const made = run();
    const entry = times.get(kernel) ?? { kernel, calls: 0, milliseconds: 0 };
    entry.calls++;
    entry.milliseconds += performance.now() - begun;
    times.set(kernel, entry);
    return made;
  };
  const watches: Pick<TensorFlowBinding, 'executeOp' | 'runSavedModel'> = {
    executeOp: (kernel, ...given) => timed(kernel, () => binding.executeOp(kernel, ...given)),
    // A compiled kernel: its outputs have its name.
    runSavedModel: (...given) =>
      timed(`compiled ${given[3].split(':')[0]}`, () => binding.runSavedModel(...given)),
  };
  const watched = backend as { binding: TensorFlowBackend['binding'] };
  // The addon's own properties can't be set.
  watched.binding = Object.create(
    binding,
    Object.fromEntries(Object.entries(watches).map(([name, value]) => [name, { value: value as unknown }])),
  ) as typeof binding;
  try {
    await run();
  } finally {
    watched.binding = binding;
  }
  return [...times.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** The most that TensorFlow multiplies, in GFLOP/s: see peakOf. */
export async function peakOfTensorFlow(tf: TF): Promise<number> {
  const ops = new Ops(tf);
  const shape: [number, number] = [PEAK_SIZE, PEAK_SIZE];
  const [a, b] = [tf.randomNormal(shape), tf.randomNormal(shape)];
  const peak = await peakOf(() => ops.exactMatMul(a, b).dispose());
  tf.dispose([a, b]);
  return peak;
}
