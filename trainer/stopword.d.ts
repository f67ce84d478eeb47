/** It comes without types: arrays of words by three-letter codes of languages, beside its functions. */
declare module 'stopword' {
  export const eng: string[];
}
