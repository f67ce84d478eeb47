/**
 * Notes what variables of the environment are now.
 *
 * @returns what puts them back, those that were not there as well
 */
export function keepEnvironment(...names: string[]): () => void {
  const kept = names.map((name) => [name, process.env[name]] as const);
  return () => {
    for (const [name, value] of kept)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  };
}
