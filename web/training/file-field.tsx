import { useRef, useState } from 'preact/hooks';

import { Failure } from '../parts/notes.js';

/** A file that is read in the browser. */
export function FileField<T>({
  label,
  what,
  accept,
  parse,
  onValues,
}: {
  label: string;
  /** What its lines are, for the count. */
  what: string;
  accept: string;
  /** @throws Error saying which line is wrong */
  parse(name: string, content: string): T[];
  onValues(values: T[]): void;
}) {
  const input = useRef<HTMLInputElement>(null);
  const [told, setTold] = useState<string | undefined>(undefined);
  const [error, setError] = useState<string | undefined>(undefined);
  const take = (values: T[], told?: string, error?: string): void => {
    setTold(told);
    setError(error);
    onValues(values);
  };
  const read = async (file: File | undefined): Promise<void> => {
    if (!file) return take([]);
    try {
      // A byte that is no UTF-8 would else become a question mark in what is learned.
      const content = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
      const values = parse(file.name, content);
      if (values.length === 0) throw new Error('Expected a line with text, found none.');
      take(values, `${values.length.toLocaleString('en')} ${what} from ${file.name}`);
    } catch (failure) {
      const reason =
        failure instanceof TypeError ? 'expected UTF-8, came other bytes' : (failure as Error).message;
      take([], undefined, `${file.name}: ${reason}`);
    }
  };
  const remove = (): void => {
    input.current!.value = '';
    take([]);
  };
  return (
    <>
      <label>
        {label}
        <input
          ref={input}
          type="file"
          accept={accept}
          onChange={(event) => void read(event.currentTarget.files?.[0])}
        />
      </label>
      {error && <Failure message={error} />}
      {told && (
        <p class="buttons">
          <span role="status">{told}</span>
          <button type="button" onClick={remove}>
            Leave {what} out
          </button>
        </p>
      )}
    </>
  );
}
