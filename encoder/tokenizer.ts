import { PreTrainedTokenizer } from '@xenova/transformers';

import { messageOf, UserError } from '../base/errors.js';

/** What the tokenizer files say, ready to be written again. */
export interface TokenizerFiles {
  /** tokenizer.json, the text itself: it decides every id. */
  tokenizerJson: string;
  /** tokenizer_config.json. */
  tokenizerConfig: Record<string, unknown>;
}

export interface Token {
  id: number;
  text: string;
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

/** What BERT's vocabulary has beside text, in the order of its ids. */
export const SPECIAL_TOKENS: readonly string[] = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];

/** A word of more characters than these is [UNK] for BERT, however it could be spelled. */
export const LONGEST_WORD = 100;

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
  private readonly specialIds: Set<number>;

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
    this.specialIds = new Set([...Object.values(this.special), ...tokenizer.all_special_ids]);
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
    return ids.map((id, i) => ({ id, text: tokens[i], special: this.specialIds.has(id) }));
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

/** The special tokens by the names of special_tokens_map.json; BERT's own where the files don't say. */
export function specialTokens({ tokenizerConfig }: TokenizerFiles): Record<string, string> {
  const named = {
    unk_token: '[UNK]',
    sep_token: '[SEP]',
    pad_token: '[PAD]',
    cls_token: '[CLS]',
    mask_token: '[MASK]',
  };
  const entries = Object.entries(named).map(([key, fallback]) => {
    const token = (tokenizerConfig[key] ?? fallback) as string | { content: string };
    return [key, typeof token === 'string' ? token : token.content];
  });
  return Object.fromEntries(entries) as Record<string, string>;
}

/**
 * The tokenizer files of a WordPiece vocabulary, as Hugging Face's BertTokenizerFast writes them.
 *
 * @param vocabulary tokens in the order of their ids, with [PAD], [UNK], [CLS], [SEP] and [MASK]
 * @throws UserError `unsupported-model` when one of these five is missing
 */
export function wordPieceFiles(
  vocabulary: readonly string[],
  options: { lowerCase: boolean; maxTokens: number },
  source = 'vocab.txt',
): TokenizerFiles {
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  for (const token of SPECIAL_TOKENS)
    if (!ids.has(token))
      throw new UserError('unsupported-model', `${source}: expected the token ${token}, found none`);
  const place = (id: string, type: number): object => ({ SpecialToken: { id, type_id: type } });
  const template = (token: string): object => ({ id: token, ids: [ids.get(token)], tokens: [token] });
  const tokenizerJson = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content) => ({
      id: ids.get(content),
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: options.lowerCase,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [place('[CLS]', 0), { Sequence: { id: 'A', type_id: 0 } }, place('[SEP]', 0)],
      pair: [
        place('[CLS]', 0),
        { Sequence: { id: 'A', type_id: 0 } },
        place('[SEP]', 0),
        { Sequence: { id: 'B', type_id: 1 } },
        place('[SEP]', 1),
      ],
      special_tokens: { '[CLS]': template('[CLS]'), '[SEP]': template('[SEP]') },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: LONGEST_WORD,
      vocab: Object.fromEntries(ids),
    },
  };
  const tokenizerConfig = {
    tokenizer_class: 'BertTokenizer',
    do_lower_case: options.lowerCase,
    tokenize_chinese_chars: true,
    strip_accents: null,
    model_max_length: options.maxTokens,
    pad_token: '[PAD]',
    unk_token: '[UNK]',
    cls_token: '[CLS]',
    sep_token: '[SEP]',
    mask_token: '[MASK]',
  };
  return { tokenizerJson: JSON.stringify(tokenizerJson), tokenizerConfig };
}

/**
 * The tokenizer files of a folder without tokenizer.json: the same text gives the same bytes.
 *
 * @param vocabText vocab.txt, a token a line in the order of their ids
 * @param tokenizerConfig tokenizer_config.json; of it, do_lower_case decides ids
 * @throws UserError as {@link wordPieceFiles}
 */
export function filesOfVocabulary(
  vocabText: string,
  tokenizerConfig: Record<string, unknown>,
  maxTokens: number,
  source?: string,
): TokenizerFiles {
  const vocabulary = vocabText.replace(/\r?\n$/, '').split(/\r?\n/);
  const lowerCase = tokenizerConfig.do_lower_case !== false;
  const files = wordPieceFiles(vocabulary, { lowerCase, maxTokens }, source);
  return { ...files, tokenizerConfig: { ...files.tokenizerConfig, ...tokenizerConfig } };
}

/** [CLS] and [SEP], with room to spare. */
const MOST_SPECIAL = 8;

/**
 * No text has more tokens than this, special ones included, and none has to be taken apart to know it: a token is a
 * character or more of the text's decomposed form, and a character is a byte or more.
 */
export function mostTokens(text: string): number {
  return Buffer.byteLength(text.normalize('NFD')) + MOST_SPECIAL;
}

/** vocab.txt of a WordPiece tokenizer; nothing for another kind. */
export function vocabTextOf({ tokenizerJson }: TokenizerFiles): string | undefined {
  const { model } = JSON.parse(tokenizerJson) as {
    model?: { type?: string; vocab?: Record<string, number> };
  };
  if (!model?.vocab || (model.type ?? 'WordPiece') !== 'WordPiece') return undefined;
  const tokens = Object.entries(model.vocab).sort(([, a], [, b]) => a - b);
  return tokens.map(([token]) => `${token}\n`).join('');
}
