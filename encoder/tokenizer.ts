import path from 'node:path';

import { PreTrainedTokenizer } from '@xenova/transformers';

import { messageOf, UserError } from '../base/errors.js';
import type { ModelFolder } from './model-folder.js';
import type { TokenizerFiles } from './tokenizer-files.js';

export interface Token {
  id: number;
  text: string;
  /** [CLS] and [SEP] around the text; not [UNK], or what the text itself calls [SEP]. */
  special: boolean;
}

export interface SpecialIds {
  cls: number;
  sep: number;
  pad: number;
  unknown: number;
  /** -1 when the vocabulary has no [MASK]. */
  mask: number;
}

/** The part of @huggingface/tokenizers that is used; its own types are lost behind the package's. */
interface Inner {
  encode(text: string): { ids: number[]; tokens: string[] };
  tokenize(text: string): string[];
  token_to_id(token: string): number | undefined;
  get_vocab(withAdded: boolean): Map<string, number>;
  get_added_tokens_decoder(): Map<number, { content: string }>;
}

/** Text to token ids, by @xenova/transformers. Pure: no text changes what comes after it. */
export class Tokenizer {
  readonly special: SpecialIds;
  /** One more than the largest id. */
  readonly vocabSize: number;
  private readonly inner: Inner;
  /** The same up to the words, which it gives as they are. */
  private readonly splitter: Inner;
  private readonly addedTokens: Set<string>;

  /**
   * @param maxTokens longest sequence that `encode` returns, with [CLS] and [SEP]
   * @param lowerCase lower-case a text first, beside what the tokenizer does (sentence_bert_config.json)
   * @throws UserError `unsupported-model` when a text isn't framed as [CLS] ... [SEP]
   */
  constructor(
    files: TokenizerFiles,
    readonly maxTokens: number,
    private readonly lowerCase = false,
    source = 'tokenizer.json',
  ) {
    let tokenizer: PreTrainedTokenizer;
    try {
      tokenizer = new PreTrainedTokenizer(JSON.parse(files.tokenizerJson) as object, files.tokenizerConfig);
      this.inner = tokenizer._tokenizer as Inner;
    } catch (error) {
      throw new UserError('malformed', `${source}: expected a tokenizer: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const frame = this.inner.encode('');
    if (frame.ids.length !== 2)
      throw new UserError(
        'unsupported-model',
        `${source}: expected the empty text to become [CLS] [SEP], found ${JSON.stringify(frame.tokens)}`,
      );
    const idOf = (token: string | null): number =>
      token === null ? -1 : (this.inner.token_to_id(token) ?? -1);
    const [cls, sep] = frame.ids;
    const { pad_token: pad, unk_token: unknown, mask_token: mask } = tokenizer;
    this.special = { cls, sep, pad: Math.max(0, idOf(pad)), unknown: idOf(unknown), mask: idOf(mask) };
    const asTheyAre = { model: (words: string[]) => words, post_processor: null };
    this.splitter = Object.assign(Object.create(this.inner) as Inner, asTheyAre);
    this.addedTokens = new Set(
      [...this.inner.get_added_tokens_decoder().values()].map(({ content }) => content),
    );
    let largest = 0;
    for (const id of this.inner.get_vocab(true).values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
  }

  /** [CLS] ... [SEP], cut off in front of [SEP] when it is longer than maxTokens. */
  encode(text: string): Int32Array {
    const ids = this.firstIds(text);
    const result = Int32Array.from(ids.length > this.maxTokens ? ids.slice(0, this.maxTokens) : ids);
    if (ids.length > this.maxTokens) result[this.maxTokens - 1] = this.special.sep;
    return result;
  }

  /** Every token, special ones included, before truncation. */
  tokens(text: string): Token[] {
    const { ids, tokens } = this.inner.encode(this.prepare(text));
    return ids.map((id, i) => ({ id, text: tokens[i], special: i === 0 || i === ids.length - 1 }));
  }

  /** How many tokens a text has, special ones included, before truncation. */
  count(text: string): number {
    return this.inner.encode(this.prepare(text)).ids.length;
  }

  /** What the tokenizer looks up in its vocabulary, normalized and split; without [SEP] and the like. */
  words(text: string): string[] {
    return this.splitter.tokenize(this.prepare(text)).filter((word) => !this.addedTokens.has(word));
  }

  /** All ids, or those of a beginning of the text that fills maxTokens: a long text is mostly cut off. */
  private firstIds(text: string): number[] {
    for (let length = 8 * this.maxTokens; length < text.length; length *= 8) {
      // A token does not reach across white space, so whole words give the same ones whatever follows.
      const { ids } = this.inner.encode(
        this.prepare(text.slice(0, Math.max(0, text.lastIndexOf(' ', length)))),
      );
      if (ids.length > this.maxTokens) return ids;
    }
    return this.inner.encode(this.prepare(text)).ids;
  }

  private prepare(text: string): string {
    return this.lowerCase ? text.toLowerCase() : text;
  }
}

/** @throws UserError `unsupported-model` when the vocabulary is larger than the word embeddings */
export function loadTokenizer(folder: ModelFolder, maxTokens = folder.maxTokens): Tokenizer {
  const source = path.join(folder.dir, 'tokenizer.json');
  const tokenizer = new Tokenizer(folder.tokenizer, maxTokens, folder.lowerCase, source);
  if (tokenizer.vocabSize > folder.config.vocabSize)
    throw new UserError(
      'unsupported-model',
      `${source}: expected ids below vocab_size ${folder.config.vocabSize} of config.json, found ${tokenizer.vocabSize - 1}`,
    );
  return tokenizer;
}
