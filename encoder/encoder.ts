/**
 * The one seam that evaluation, training and serving share: texts in, vectors out.
 */
export interface Encoder {
  /** What a person calls it: the folder's name, or the name it was asked for by. */
  readonly name: string;
  /** Length of a vector (d). */
  readonly dimensions: number;
  /** Longest text, in tokens with [CLS] and [SEP]; what is beyond is cut off. */
  readonly maxTokens: number;
  /** SHA-256 over all that decides a vector. Vectors of two fingerprints must never be compared. */
  readonly fingerprint: string;

  /**
   * @param texts n texts; order and duplicates are kept
   * @returns n x d, row-major; rows have length 1 when the model folder normalizes (2_Normalize)
   * @throws UserError `backend` when inference fails
   */
  encode(texts: readonly string[], options?: EncodeOptions): Promise<Float32Array>;

  close(): Promise<void>;
}

export interface EncodeOptions {
  /** Called as rows are finished, with how many are done of all. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}
