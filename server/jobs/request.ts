/** What a training job is asked to do. Everything but `activate` and `margin` is the command's own. */
export interface FinetuneRequest {
  preset?: string;
  objective?: string;
  adapt?: string;
  teacher?: string;
  /** Over the preset, as after --set. */
  settings?: Record<string, string | number | boolean>;
  /** Whether pairs of the feedback are trained on, and its queries chosen by. */
  feedback: boolean;
  activate: ActivationPolicy;
  /** How much better it has to be, as a fraction of map@100: the interval's lower end. */
  margin: number;
  /** The file in the jobs' folder that holds what came with it. */
  sent?: string;
}

/** Data that came with a request. */
export interface SentData {
  /** Instead of the collection's documents. */
  texts?: string[];
  /** Texts that mean the same, beside those of the feedback. */
  pairs?: [string, string][];
}

/** manual: a person activates. if-better: the job does, when it is better beyond chance on held-out feedback. */
export type ActivationPolicy = 'manual' | 'if-better';

/**
 * Options of `sentence-jepa finetune` that say what to do, without data, model and folders.
 *
 * @param preset of a request that names neither preset nor objective: the command would train nothing where there are
 *   no pairs beside --adapt
 */
export function recipeArguments(request: FinetuneRequest, preset: string): string[] {
  const { settings = {}, objective } = request;
  const recipe = { ...request, preset: request.preset ?? (objective === undefined ? preset : undefined) };
  const options = (['preset', 'objective', 'adapt', 'teacher'] as const).flatMap((name) =>
    recipe[name] === undefined ? [] : [`--${name}=${recipe[name]}`],
  );
  const set = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  return [...options, ...(set.length > 0 ? ['--set', ...set] : [])];
}
