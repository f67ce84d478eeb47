/** What transformers.js asks for, the largest last. */
const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'onnx/model.onnx'];

const folderOf = (model: string): string => `/models/${encodeURIComponent(model)}/files`;

export const filesOf = (model: string): string[] => FILES.map((file) => `${folderOf(model)}/${file}`);

/** Fetches from this server with the tab's key, and counts what comes. */
export class Loader {
  /** What the library is told that the model is called: the address of its files. */
  readonly folder: string;
  /** Why the server refused a file; that it has none of that name is for the library to judge. */
  refusal: { status: number; message: string } | undefined;
  private loaded = 0;
  private total = 0;

  constructor(
    model: string,
    private readonly key: string,
    private readonly onProgress: (loaded: number, total: number) => void,
  ) {
    this.folder = folderOf(model);
  }

  /** Asks how many bytes are to come. */
  async expect(urls: readonly string[]): Promise<void> {
    const answers = await Promise.all(urls.map((url) => this.ask(url, 'HEAD')));
    for (const { ok, headers } of answers) this.total += ok ? Number(headers.get('Content-Length')) : 0;
  }

  readonly fetch = async (input: string | URL): Promise<Response> => {
    const response = await this.ask(String(input), 'GET');
    if (!response.ok) {
      const { error } = (await response.clone().json()) as { error: string };
      this.refusal ??= { status: response.status, message: error };
      if (response.status !== 404) throw new Error(error);
      return response;
    }
    const counted = response.body!.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform: (chunk, controller) => {
          this.loaded += chunk.length;
          this.total = Math.max(this.total, this.loaded);
          this.onProgress(this.loaded, this.total);
          controller.enqueue(chunk);
        },
      }),
    );
    return new Response(counted, { status: response.status, headers: response.headers });
  };

  private async ask(url: string, method: string): Promise<Response> {
    const headers: HeadersInit = this.key === '' ? {} : { Authorization: `Bearer ${this.key}` };
    try {
      return await fetch(url, { method, headers });
    } catch (cause) {
      const message = 'The server does not answer. Start it again, then load the model once more.';
      this.refusal ??= { status: 0, message };
      throw new Error(message, { cause });
    }
  }
}
