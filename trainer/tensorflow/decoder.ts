import type { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import { pack } from '../packing.js';
import type { HostTensor, PackedBatch } from '../types.js';
import { bertBackward, bertForward, toDevice, type Weights } from './bert.js';
import { crossAttention, crossParameters } from './cross-attention.js';
import type { Dropout } from './layers.js';
import { mlm, mlmParameters } from './mlm.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** First values of what the decoder has beside the encoder's weights: cross-attention, and the head's layers. */
export function decoderParameters(config: BertConfig, random: Random): Map<string, HostTensor> {
  return new Map([...crossParameters(config, random), ...mlmParameters(config, random, 'decoder')]);
}

export interface Reconstruction {
  /** Mean cross entropy of the tokens, in nats. */
  loss: number;
  /** Share of the tokens that were the most likely one. */
  accuracy: number;
  /** Gradient of weight x loss with respect to the vectors: [n, d]; the caller disposes of it. */
  dVectors: Tensor;
}

/**
 * TSDAE's decoder (Wang et al. 2021, arXiv 2104.06979): a text's tokens, one after the other, from its vector
 * alone, which is all that cross-attention sees. Each token is guessed from those before it (teacher forcing).
 *
 * Encoder and decoder are tied, as sentence-transformers' DenoisingAutoEncoderLoss does by default: the decoder
 * is the encoder, with attention to earlier tokens only and a cross-attention in each layer that begins with
 * random weights. As there, the head is that of masked words: dense, GELU, layer norm, the word embeddings.
 *
 * Adds the gradients of all of these to `gradients`.
 *
 * @param vectors [n, d]
 * @param texts what they are vectors of, n sequences of two tokens or more
 * @param weight of the loss in the sum
 */
export function reconstruct(
  ops: Ops,
  config: BertConfig,
  weights: Weights,
  vectors: Tensor,
  texts: PackedBatch,
  dropout: Dropout,
  gradients: Gradients,
  weight = 1,
): Reconstruction {
  return ops.tidy<Reconstruction>(() => {
    const { inputs, labels } = shifted(texts);
    const batch = toDevice(ops, inputs, config, { causal: true });
    const cross = crossAttention(ops, config, weights, vectors, batch, dropout);
    const { hidden, saved } = bertForward(ops, config, weights, batch, dropout, true, cross);
    const rows = labels.map((_, row) => row);
    const head = { name: 'decoder', weight };
    const { loss, accuracy, dHidden } = mlm(ops, config, weights, hidden, rows, labels, gradients, head);
    hidden.dispose();
    bertBackward(ops, config, weights, batch, saved, dHidden, gradients, cross);
    return { loss, accuracy, dVectors: cross.takeVectors() };
  });
}

/** Each token but a sequence's last, and the one that follows it. */
function shifted({ ids, offsets }: PackedBatch): { inputs: PackedBatch; labels: Int32Array } {
  const sequences = Array.from({ length: offsets.length - 1 }, (_, s) =>
    ids.subarray(offsets[s], offsets[s + 1]),
  );
  return {
    inputs: pack(sequences.map((sequence) => sequence.subarray(0, -1))),
    labels: pack(sequences.map((sequence) => sequence.subarray(1))).ids,
  };
}
