import { UserError } from '../base/errors.js';

/** What the tokenizer files say, ready to be written again. */
export interface TokenizerFiles {
  /** tokenizer.json, the text itself: it decides every id. */
  tokenizerJson: string;
  /** tokenizer_config.json. */
  tokenizerConfig: Record<string, unknown>;
}

/** What BERT's vocabulary has beside text, in the order of its ids. */
export const SPECIAL_TOKENS: readonly string[] = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];

/** A word of more characters than these is [UNK] for BERT, however it could be spelled. */
export const LONGEST_WORD = 100;

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
