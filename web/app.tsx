import { useEffect } from 'preact/hooks';

import { DuplicatesPage } from './duplicates/page.js';
import { LazyMapPage } from './map/lazy.js';
import { KeyDialog } from './parts/key-dialog.js';
import { page, PAGES, titleOf, type Page } from './route.js';
import { SearchPage } from './search/page.js';
import { nextTheme, theme } from './theme.js';
import { TrainingPage } from './training/page.js';

const contentOf: Record<Page, () => preact.JSX.Element> = {
  search: SearchPage,
  duplicates: DuplicatesPage,
  map: LazyMapPage,
  training: TrainingPage,
};

export function App() {
  const current = page.value;
  const Content = contentOf[current];
  useEffect(() => {
    document.title = `${titleOf[current]} - sentence-jepa`;
  }, [current]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // The hash names the page.
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
      >
        Skip to content
      </a>
      <header>
        <nav aria-label="Pages">
          {PAGES.map((each) => (
            <a key={each} href={`#${each}`} aria-current={each === current ? 'page' : undefined}>
              {titleOf[each]}
            </a>
          ))}
          <a href="/docs/">API</a>
        </nav>
        <button type="button" class="quiet" onClick={nextTheme}>
          <span class="if-wide">Colours: {theme.value}</span>
          <span class="if-narrow" aria-hidden="true">
            ◐
          </span>
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <h1>{titleOf[current]}</h1>
        <Content />
      </main>
      <KeyDialog />
    </>
  );
}
