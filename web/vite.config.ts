import { gzipSync } from 'node:zlib';

import { defineConfig, type Plugin } from 'vite';

/** Compressed, of all that the first page loads. */
const LIMIT_BYTES = 200_000;

function limitSize(): Plugin {
  return {
    name: 'limit-size',
    generateBundle(_options, bundle) {
      const loaded = Object.values(bundle).filter((file) => file.type === 'asset' || !file.isDynamicEntry);
      const bytes = loaded
        .map((file) => gzipSync(file.type === 'asset' ? file.source : file.code).length)
        .reduce((sum, size) => sum + size, 0);
      console.error(`pages: ${(bytes / 1000).toFixed(1)} kB compressed, of at most ${LIMIT_BYTES / 1000}`);
      if (bytes > LIMIT_BYTES) this.error(`expected at most ${LIMIT_BYTES} bytes, came ${bytes}`);
    },
  };
}

export default defineConfig({
  root: import.meta.dirname,
  plugins: [limitSize()],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    outDir: '../dist/web',
    emptyOutDir: true,
    target: 'es2022',
    // A data: URL would need a wider content security policy.
    assetsInlineLimit: 0,
    // It would add an inline script for browsers that know no modulepreload.
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
