import type { Limits } from '../config.js';
import type { Document, Metadata } from '../search/collection.js';
import { parseJson, type Line } from './body.js';
import { HttpError } from './errors.js';
import { checkText } from './handler.js';
import { checkSchema } from './spec.js';

interface BeirDocument {
  _id: string;
  title?: string;
  text: string;
  metadata?: Metadata;
}

const checkDocument = checkSchema('Document', 'the document');
const checkBeirDocument = checkSchema('BeirDocument', 'the document');

/** A line as a document, ours or BEIR's. @throws HttpError naming the line */
export function documentOf({ number, bytes }: Line, limits: Pick<Limits, 'characters'>): Document {
  try {
    const value = parseJson(bytes, 'the line');
    if (value !== null && typeof value === 'object' && '_id' in value) {
      checkBeirDocument(value);
      const { _id, title = '', text, metadata } = value as BeirDocument;
      const document = { id: _id, text: `${title} ${text}`.trim(), ...(metadata && { metadata }) };
      if (document.text === '')
        throw new HttpError('empty', 'text: expected a title or a text that is not blank, came neither');
      checkText(document.text, 'text', limits);
      return document;
    }
    checkDocument(value);
    checkText((value as Document).text, 'text', limits);
    return value as Document;
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    throw new HttpError(error.kind, `line ${number}: ${error.message}`, {
      ...error.details,
      fields: { line: number },
    });
  }
}
