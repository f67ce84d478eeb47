import path from 'node:path';

import type express from 'express';

import { ModelFiles } from '../../model-files/model-files.js';
import { HttpError } from '../errors.js';
import { generationFor, type Call, type Handlers } from '../handler.js';

export function modelFileHandlers(): Handlers<'modelFile' | 'modelGraph'> {
  const all = new ModelFiles();
  const send = async (call: Call<'modelFile' | 'modelGraph'>, wanted: string): Promise<undefined> => {
    const { inference } = generationFor(call, call.path.name);
    const files = await all.of(inference);
    // Looked up, never joined to a folder: no name leads out of it.
    const found = files.get(wanted);
    if (!found)
      throw new HttpError(
        'not-found',
        `file: expected one of ${[...files.keys()].join(', ')}, came ${JSON.stringify(wanted)}; where the model's folder lacks one, "sentence-jepa model export" writes a complete folder`,
        { param: 'file' },
      );
    // Under the same name there may be another model after the next start.
    call.response.set({ ETag: `"${found.digest}"`, 'Cache-Control': 'private, no-cache' });
    await sendFile(call.response, found.file);
  };
  return {
    modelFile: (call) => send(call, call.path.file),
    modelGraph: (call) => send(call, `onnx/${call.path.file}`),
  };
}

function sendFile(response: express.Response, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    response.once('close', resolve);
    // Under a root, because folders on the way to it may begin with a dot.
    const options = {
      root: path.dirname(file),
      acceptRanges: false,
      cacheControl: false,
      lastModified: false,
    };
    response.sendFile(path.basename(file), options, (cause?: Error) => {
      if (cause)
        reject(
          new HttpError(
            'unavailable',
            `${path.basename(file)} of the model's folder can't be read any more; start the server again`,
            {},
            { cause },
          ),
        );
    });
  });
}
