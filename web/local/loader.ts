/** What transformers.js asks for, the largest last. */
const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'onnx/model.onnx'];

const folderOf = (model: string): string => `/models/${encodeURIComponent(model)}/files`;

export const filesOf = (model: string): string[] => FILES.map((file) => `${folderOf(model)}/${file}`);

async function messageOf(response: Response): Promise<string> {
  try {
    return ((await response.json()) as { error: string }).error;
  } catch {
    return `${response.url} is answered with ${response.status}. Reload the page.`;
  }
}

/** Fetches from this server with the tab's key, and counts what comes. */
export class Loader {
  /** What the library is told that the model is called: the address of its files. */
  readonly folder: string;
  /** Why the server refused a file, other than that it lacks one which the library can do without. */
  refusal: { status: number; message: string } | undefined;
  private needed: readonly string[] = [];
  private loaded = 0;
  private total = 0;

  constructor(
    model: string,
    private readonly key: string,
    private readonly onProgress: (loaded: number, total: number) => void,
  ) {
    this.folder = folderOf(model);
  }

  /** Asks how many bytes are to come of what has to come. */
  async expect(urls: readonly string[]): Promise<void> {
    this.needed = urls;
    const answers = await Promise.all(urls.map((url) => this.ask(url, 'HEAD')));
    for (const { ok, headers } of answers) this.total += ok ? Number(headers.get('Content-Length')) : 0;
  }

  readonly fetch = async (input: string | URL): Promise<Response> => {
    const response = await this.ask(String(input), 'GET');
    if (!response.ok) {
      const { status } = response;
      if (status === 404 && !this.needed.includes(String(input))) return response;
      const message = await messageOf(response);
      this.refusal ??= { status, message };
      throw new Error(message);
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
