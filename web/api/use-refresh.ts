import { useEffect } from 'preact/hooks';

/**
 * Asks again a while after each answer: another tab, a schedule or a job may change what there is. Not sooner, for to ask again
 * gives up what is under way.
 */
export function useRefresh(loading: boolean, ask: () => void, ms: number): void {
  useEffect(() => {
    if (loading) return;
    const later = setTimeout(ask, ms);
    return () => clearTimeout(later);
  }, [loading]);
}
