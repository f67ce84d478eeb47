import { UserError } from '../base/errors.js';
import type { FinetuneRequest, SentData } from '../server/jobs/request.js';
import { choosePreset, OBJECTIVES, presetNamed } from '../trainer/presets.js';

/**
 * Refuses, before a job waits for its turn, what the trainer would refuse when it comes.
 *
 * @throws UserError `usage`, naming the request's field
 */
export async function checkRecipe(request: FinetuneRequest, data: SentData = {}): Promise<void> {
  const { preset, adapt, teacher, feedback, settings = {} } = request;
  const objective = OBJECTIVES.find((name) => name === request.objective);
  if (request.objective !== objective)
    throw new UserError(
      'usage',
      `objective: expected ${OBJECTIVES.join(', ')}, came ${JSON.stringify(request.objective)}`,
    );
  // Loaded when it is asked for: most servers never train.
  const [{ withSettings }, { checkObjective }, { parseAdaptation }] = await Promise.all([
    import('../trainer/settings.js'),
    import('../trainer/check-objective.js'),
    import('../trainer/adaptation.js'),
  ]);
  try {
    const changes = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    const recipe = withSettings(presetNamed(choosePreset(preset, objective)), changes);
    // Whether feedback has pairs is seen when it trains.
    const pairs = data.pairs !== undefined || (feedback ? undefined : false);
    checkObjective(recipe, { teacher: teacher !== undefined, pairs });
    if (adapt !== undefined) parseAdaptation(adapt);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(error.kind, inRequest(error.message), { cause: error });
  }
}

/** A message about options as one about fields. */
function inRequest(message: string): string {
  return message
    .replaceAll('--set:', 'settings:')
    .replaceAll('--set ', 'settings.')
    .replaceAll(/(?<=^|\s)--(?=[a-z])/g, '');
}
