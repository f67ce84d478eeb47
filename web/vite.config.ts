import { gzipSync } from 'node:zlib';

import { defineConfig, type Plugin } from 'vite';

/** Compressed, of all that the first page loads. */
const LIMIT_BYTES = 200_000;
const PAGE = 'index.html';

function limitSize(): Plugin {
  return {
    name: 'limit-size',
    enforce: 'post',
    generateBundle(_options, bundle) {
      const contentOf = (name: string): string | Uint8Array => {
        const file = bundle[name];
        return file.type === 'asset' ? file.source : file.code;
      };
      // It names all of it, what scripts import as well; what a worker loads comes when somebody asks for it.
      const named = [...String(contentOf(PAGE)).matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map(
        ([, name]) => name,
      );
      const bytes = [PAGE, ...named]
        .map((name) => gzipSync(contentOf(name)).length)
        .reduce((sum, size) => sum + size, 0);
      console.error(`pages: ${(bytes / 1000).toFixed(1)} kB compressed, of at most ${LIMIT_BYTES / 1000}`);
      if (bytes > LIMIT_BYTES) this.error(`expected at most ${LIMIT_BYTES} bytes, came ${bytes}`);
    },
  };
}

export default defineConfig({
  root: import.meta.dirname,
  plugins: [limitSize()],
  // What transformers.js takes by default has WebGPU in it, which is twice as large.
  resolve: { alias: { 'onnxruntime-web/webgpu': 'onnxruntime-web/wasm' } },
  worker: { format: 'es' },
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
    // deck.gl, which comes with the page Map alone.
    chunkSizeWarningLimit: 1000,
  },
});
