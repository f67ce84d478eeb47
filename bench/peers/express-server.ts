import { env, pipeline } from '@xenova/transformers';
import express from 'express';

/**
 * What a Node programmer writes in ten minutes: express and transformers.js in one process.
 *
 * usage: express-server.js MODEL_FOLDER PORT mean|cls
 */
const [folder, port, pooling] = process.argv.slice(2);
env.allowRemoteModels = false;
const extract = await pipeline('feature-extraction', folder, { dtype: 'fp32', device: 'cpu' });
const app = express();
app.use(express.json({ limit: '10mb' }));
app.get('/health', (_request, response) => {
  response.json({ status: 'ok' });
});
app.post('/embed', async (request, response) => {
  const { inputs } = request.body as { inputs: string | string[] };
  const vectors = await extract([inputs].flat(), { pooling: pooling as 'mean' | 'cls', normalize: true });
  response.json(vectors.tolist());
});
app.listen(Number(port), '127.0.0.1');
