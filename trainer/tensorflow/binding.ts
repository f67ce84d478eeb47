import type * as core from '@tensorflow/tfjs-core';
// tensor.add(...) and its like: tfjs-node has them all, tfjs-core declares them apart.
import type {} from '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';

/** tfjs-node: the tfjs API, and under its backend TensorFlow's own kernels by name. */
export type TF = Omit<typeof core, 'backend'> & { backend(): TensorFlowBackend };

/** What of tfjs-node's NodeJSKernelBackend is used here. */
export interface TensorFlowBackend extends core.KernelBackend {
  readonly binding: TensorFlowBinding;
  /** Ids for `executeOp`; uploads values that TensorFlow has not seen. */
  getInputTensorIds(tensors: core.Tensor[]): number[];
  /** Makes a tensor of the tfjs API from an output of `executeOp`; disposing it frees the output. */
  createOutputTensor(metadata: TensorMetadata): core.Tensor;
}

/** The native addon: tensors by id, kernels by name. Every id that it hands out must be deleted. */
export interface TensorFlowBinding {
  createTensor(
    shape: number[],
    dtype: number,
    data: Float32Array | Int32Array | Uint8Array | BigInt64Array,
  ): number;
  tensorDataSync(id: number): Float32Array | Int32Array | Uint8Array;
  deleteTensor(id: number): void;
  /** @throws Error with TensorFlow's message when the kernel refuses its inputs */
  executeOp(op: string, attributes: OpAttribute[], inputs: number[], outputs: number): TensorMetadata[];
  /** @returns its id. @throws Error with TensorFlow's message */
  loadSavedModel(folder: string, tags: string): number;
  /** @param names of operations and their outputs, `name:0`, with commas between them */
  runSavedModel(id: number, inputs: number[], inputNames: string, outputNames: string): TensorMetadata[];
  getNumOfTensors(): number;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
  readonly TF_INT64: number;
  readonly TF_BOOL: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  /** Of the native library, such as 2.21.0. */
  readonly TF_Version: string;
}

export interface TensorMetadata {
  id: number;
  shape: number[];
  dtype: number;
}

export interface OpAttribute {
  name: string;
  /** One of the binding's TF_ATTR_ numbers. */
  type: number;
  value: boolean | number | string | number[] | string[];
}
