import { signal } from '@preact/signals';

/**
 * Pages are told apart behind the `#`: `/duplicates` is a route of the interface, and stays one.
 * The first is the one that an unknown name shows.
 */
export const PAGES = ['search', 'duplicates', 'map', 'training'] as const;
export type Page = (typeof PAGES)[number];

export const titleOf: Readonly<Record<Page, string>> = {
  search: 'Search',
  duplicates: 'Duplicates',
  map: 'Map',
  training: 'Training',
};

function pageOf(hash: string): Page {
  const name = hash.replace(/^#\/?/, '');
  return PAGES.find((page) => page === name) ?? PAGES[0];
}

export const page = signal<Page>(pageOf(location.hash));
addEventListener('hashchange', () => (page.value = pageOf(location.hash)));
