import { existsSync } from 'node:fs';
import path from 'node:path';

import express from 'express';
import helmet from 'helmet';

import { projectRoot } from '../../base/paths.js';

const folder = path.join(projectRoot, 'dist', 'web');
const start = 'index.html';
const YEAR_MS = 365 * 24 * 60 * 60 * 1000;

const policy = helmet.contentSecurityPolicy({
  useDefaults: false,
  directives: {
    defaultSrc: ["'none'"],
    // Of what is evaluated, WebAssembly alone, which "Run it here" is.
    scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'"],
    connectSrc: ["'self'"],
    workerSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
});

/** What the pages load. The names of these files change with what is in them, so browsers may keep them. */
export function pageAssets(): express.Router {
  const router = express.Router();
  router.use(policy, express.static(path.join(folder, 'assets'), { immutable: true, maxAge: YEAR_MS }));
  return router;
}

const notBuilt = `<!doctype html>
<html lang="en"><title>sentence-jepa</title>
<p>The pages are not built: <code>npm run build</code> makes them. The interface is here all the same: <a href="/docs/">/docs</a>.</p>
</html>
`;

/** Answers with the page that all others are in; it is asked for again each time, so that it names the latest assets. */
export function sendPages(request: express.Request, response: express.Response): Promise<void> {
  return new Promise((resolve, reject) => {
    policy(request, response, (error?: unknown) => {
      if (error) return reject(error as Error);
      response.set('Cache-Control', 'no-cache');
      response.once('close', resolve);
      // Under a root, because folders on the way to it may begin with a dot.
      if (existsSync(path.join(folder, start)))
        response.sendFile(start, { root: folder }, (failure) => failure && reject(failure));
      else response.type('html').send(notBuilt);
    });
  });
}
