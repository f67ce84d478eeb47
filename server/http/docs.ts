import express from 'express';
import helmet from 'helmet';
import swaggerUi from 'swagger-ui-express';

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
