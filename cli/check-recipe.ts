import { UserError } from '../base/errors.js';
import type { FinetuneRequest } from '../server/jobs/request.js';
import { choosePreset, OBJECTIVES, presetNamed } from '../trainer/presets.js';

/**
 * Refuses, before a job waits for its turn, what the trainer would refuse when it comes.
 *
 * @throws UserError `usage`, naming the request's field
 */
export async function checkRecipe(request: FinetuneRequest): Promise<void> {
  const { preset, adapt, settings = {} } = request;
  const objective = OBJECTIVES.find((name) => name === request.objective);
  if (request.objective !== objective)
    throw new UserError(
      'usage',
      `objective: expected ${OBJECTIVES.join(', ')}, came ${JSON.stringify(request.objective)}`,
    );
  // Loaded when it is asked for: most servers never train.
  const [{ withSettings }, { parseAdaptation }] = await Promise.all([
    import('../trainer/settings.js'),
    import('../trainer/adaptation.js'),
  ]);
  try {
    const changes = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    withSettings(presetNamed(choosePreset(preset, objective)), changes);
    if (adapt !== undefined) parseAdaptation(adapt);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const message = error.message
      .replace(/^--set:/, 'settings:')
      .replace(/^--set /, 'settings.')
      .replace(/^--/, '');
    throw new UserError(error.kind, message, { cause: error });
  }
}
