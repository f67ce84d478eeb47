import express from 'express';
import helmet from 'helmet';
import swaggerUi from 'swagger-ui-express';

/** Of the folder that Swagger UI comes in, what its page loads. */
const ASSETS = [
  'favicon-16x16.png',
  'favicon-32x32.png',
  'swagger-ui-bundle.js',
  'swagger-ui-init.js',
  'swagger-ui-standalone-preset.js',
  'swagger-ui.css',
].map((name) => `/${name}`);

/** What Swagger UI's page loads, under /docs/. Its styles are inline, so it has a policy of its own. */
export function docsAssets(): express.Router {
  const router = express.Router();
  router.use(
    helmet.contentSecurityPolicy({
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
      },
    }),
    (request, _response, next) => next(ASSETS.includes(request.path) ? undefined : 'router'),
    ...swaggerUi.serve,
  );
  return router;
}

/** Swagger UI's page. */
export const docsHtml: string = swaggerUi.generateHTML(undefined, {
  swaggerUrl: '/openapi.yaml',
  customSiteTitle: 'sentence-jepa',
  swaggerOptions: { validatorUrl: null },
});
