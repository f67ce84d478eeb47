/** The files of a model folder that are fetched, in the order in which they are asked for. */
export const SETTINGS_FILES = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'vocab.txt',
  'special_tokens_map.json',
  'modules.json',
  '1_Pooling/config.json',
  'sentence_bert_config.json',
  'config_sentence_transformers.json',
  'README.md',
];

export const WEIGHTS_FILE = 'model.safetensors';

/** Fetched only where there are no weights to build them from. */
export const GRAPH_FILES = ['onnx/model.onnx', 'onnx/model_quantized.onnx'];

/** The files of a Dense module's folder: its settings and its weights. */
export const DENSE_FILES = ['config.json', 'model.safetensors'];

/** The weights of a compact folder, in place of model.safetensors. */
export const COMPACT_WEIGHTS_FILE = 'model.int8.safetensors';

/** Counts up with every change of the graphs of onnx/bert-graph.ts: graphs kept in the cache are told apart by it. */
export const GRAPH_VERSION = 2;
