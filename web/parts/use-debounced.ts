import { useEffect, useState } from 'preact/hooks';

/** A value as it was when it last stayed the same for so long. */
export function useDebounced<T>(value: T, ms: number): T {
  const [late, setLate] = useState(value);
  useEffect(() => {
    const later = setTimeout(() => setLate(value), ms);
    return () => clearTimeout(later);
  }, [value, ms]);
  return late;
}
