import type { AdaptEntry, EvaluationEntry, Run, RunStart, StepEntry } from '../../trainer/run-log.js';

/** A run's start as the trainer logs it. */
export function startEntry(changes: Partial<RunStart> = {}): RunStart {
  return {
    type: 'start',
    time: '2026-11-24T12:00:00.000Z',
    version: '0.1.0',
    preset: 'vicreg',
    recipe: {
      objective: 'vicreg',
      batch: 64,
      pairShare: 0,
      hardNegatives: 0,
      epochs: 1,
      maxSteps: 0,
      tokens: 0,
      seed: 1,
      chunk: 0,
      precision: 'fp32',
      maxTokens: 64,
      pooling: 'model',
      views: ['word-crop', 'word-crop'],
      minCropWords: 2,
      cropShare: 0,
      deletionShare: 0.2,
      orderDistance: 3,
      maskingShare: 0.15,
      typoShare: 0.15,
      swapShare: 0.3,
      expander: [2048, 2048, 2048],
      expanderBias: false,
      invariance: 'mse',
      lambda: 25,
      mu: 25,
      nu: 1,
      predictorWidth: 0,
      targetEncoder: 'same',
      barlowLambda: 5e-3,
      temperature: 0.05,
      symmetric: false,
      context: '',
      whitening: 0,
      neighbourTexts: 0,
      neighbourTextWeight: 0,
      neighbours: 0,
      neighbourWeight: 0.15,
      pairWeight: 0.5,
      vectorWeight: 1,
      similarityWeight: 1,
      maskShare: 0.15,
      mlmWeight: 0,
      rtdWeight: 0,
      reconstructionWeight: 0,
      editWeight: 0,
      keepWeight: 0,
      learningRate: 2e-5,
      layerDecay: 1,
      expanderLearningRate: 2e-5,
      schedule: 'linear',
      warmup: 0.1,
      weightDecay: 0.01,
      clip: 1,
      averageDecay: 0,
      averageLast: 0,
      baseShare: 0,
      dropout: 'model',
      evaluateEvery: 100,
      patience: 0,
      checkpointEvery: 100,
      collapseStd: 0.3,
    },
    steps: 200,
    data: [{ file: 'data/titles.txt', kind: 'texts', count: 12_800, sha256: 'ab'.repeat(32) }],
    base: { name: 'all-MiniLM-L6-v2', fingerprint: 'cd'.repeat(32), dimensions: 384, layers: 6 },
    environment: { node: '22.1.0', tensorflow: '2.9.1', processor: 'a processor', threads: 2 },
    ...changes,
  };
}

export function stepEntry(step: number, changes: Partial<StepEntry> = {}): StepEntry {
  return {
    type: 'step',
    step,
    loss: 12.5,
    terms: { invariance: 2, variance: 10, covariance: 0.5 },
    std: 0.95,
    gradientNorm: 3,
    learningRate: 2e-5,
    tokens: 1000,
    seconds: 0.5,
    ...changes,
  };
}

/** One evaluation of map@100, or with a spec a step's results of several. */
export function evaluationEntry(
  step: number,
  results: Record<string, number>,
  metric = 'map@100',
): EvaluationEntry {
  return {
    type: 'evaluation',
    step,
    results: Object.entries(results).map(([spec, value]) => ({
      spec,
      primary: metric,
      metrics: { [metric]: value, 'recall@10': value + 0.1 },
      counts: { documents: 5054, queries: 1665 },
      diagnostics: { std: 0.9876, meanCosine: 0.0312, effectiveRank: 211.3 + step },
      seconds: 4.2,
    })),
  };
}

/** An adaptation that takes map@100 to `value` from 44.04. */
export function adaptEntry(value: number, changes: Partial<AdaptEntry> = {}): AdaptEntry {
  const difference = value - 0.4404;
  return {
    type: 'adapt',
    adaptation: 'center,pca=192',
    texts: 12_800,
    dimensions: 192,
    variance: 0.951,
    results: evaluationEntry(0, { 'beir:data/dev': value }).results,
    comparisons: [
      {
        spec: 'beir:data/dev',
        metric: 'map@100',
        difference,
        low: difference - 0.004,
        high: difference + 0.004,
        p: 0.12,
      },
    ],
    seconds: 90,
    ...changes,
  };
}

/** A base encoder that was adapted and not trained. */
export function adaptedRun(value: number): Run {
  return {
    start: startEntry({ steps: 0, adapt: 'center,pca=192' }),
    steps: [],
    evaluations: [evaluationEntry(0, { 'beir:data/dev': 0.4404 })],
    adapted: adaptEntry(value),
    end: {
      type: 'end',
      time: '2026-11-24T12:02:00.000Z',
      reason: 'finished',
      step: 0,
      bestStep: 0,
      seconds: 90,
    },
  };
}

/** A run of 200 steps whose map@100 goes from 44.04 to 45.2 and down again. */
export function finishedRun(changes: Partial<Run> = {}): Run {
  return {
    start: startEntry(),
    steps: Array.from({ length: 200 }, (_, i) => stepEntry(i + 1)),
    evaluations: [
      evaluationEntry(0, { 'beir:data/dev': 0.4404 }),
      evaluationEntry(100, { 'beir:data/dev': 0.452 }),
      evaluationEntry(200, { 'beir:data/dev': 0.447 }),
    ],
    end: {
      type: 'end',
      time: '2026-11-24T12:02:00.000Z',
      reason: 'finished',
      step: 200,
      bestStep: 100,
      seconds: 120,
    },
    ...changes,
  };
}
