import type { ServedGeneration } from '../../search/collection.js';
import type { MapStatus } from '../../map/maps.js';
import { HttpError } from '../errors.js';
import { generationFor, type Handlers } from '../handler.js';
import type { components } from '../openapi.js';

function toState({ id, model }: ServedGeneration, status: MapStatus): components['schemas']['MapState'] {
  const named = { model, generation: id };
  if ('error' in status) return { ...named, ...status };
  const { map, since, ...state } = status;
  return { ...named, ...state, ...(map && { ...map, since }) };
}

export const mapHandlers: Handlers<'mapState' | 'makeMap' | 'mapPoints'> = {
  async mapState(call) {
    const generation = generationFor(call, call.query.model);
    return toState(generation, await call.services.maps.status(generation));
  },

  async makeMap(call) {
    const { maps, collection } = call.services;
    const generation = generationFor(call, call.query.model);
    if (collection.info().documents < 2)
      throw new HttpError(
        'empty',
        'the collection: expected two documents or more; add some before a map is made',
      );
    const others = collection.generations().filter(({ id }) => id !== generation.id);
    maps.start(
      generation,
      others.map(({ id }) => id),
    );
    call.response.status(202);
    return toState(generation, await maps.status(generation));
  },

  async mapPoints(call) {
    const generation = generationFor(call, call.query.model);
    const points = await call.services.maps.points(generation, call.query.field);
    if (!points)
      throw new HttpError('not-found', `there is no map of ${generation.model}; POST /map has one made`, {
        param: 'model',
      });
    return { model: generation.model, generation: generation.id, ...points };
  },
};
