/** Questions to the server. While it does not answer they wait, and the page says so. */

export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

class Server {
  /** Whether the last question found nobody. */
  away = $state(false);
  /** Whether a question wanted the token of the server. */
  locked = $state(false);
}

export const server = new Server();

/** Where a token is brought. */
export const SESSION = "/v1/session";
const RETRY_MS = 1000;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** The sentence in an answer that says what is wrong. */
export function sentence(body: unknown, status: number): string {
  if (typeof body === "object" && body !== null) {
    const said = (body as Record<string, unknown>)["error"] ?? (body as Record<string, unknown>)["detail"];
    if (typeof said === "string") return said;
    if (Array.isArray(said) && said.length) {
      const first = said[0] as { loc?: unknown[]; msg?: string };
      return `${(first.loc ?? []).slice(1).join(".")}: ${first.msg ?? "is wrong"}`;
    }
  }
  return `the server answered with status ${status}.`;
}

/** Ask until the server answers; a refusal is thrown as its sentence. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    let answer: Response;
    try {
      answer = await fetch(path, init);
    } catch (error) {
      if (init.signal?.aborted) throw error;
      server.away = true;
      await pause(RETRY_MS);
      continue;
    }
    server.away = false;
    if (answer.ok) return answer;
    if (answer.status === 429) {
      await pause(1000 * Number(answer.headers.get("Retry-After") ?? 1));
      continue;
    }
    const body: unknown = await answer.json().catch(() => null);
    const wantsToken = answer.status === 401 && path !== SESSION;
    server.locked ||= wantsToken;
    throw new Refused(wantsToken ? "Sign in to see this." : sentence(body, answer.status), answer.status);
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await ask(path, { signal: signal ?? null })).json() as Promise<T>;
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: signal ?? null,
  };
  return (await ask(path, init)).json() as Promise<T>;
}

/** The newest answer to a question that changes: older questions are given up. */
export class Latest<T> {
  value = $state.raw<T | null>(null);
  error = $state("");
  waiting = $state(false);
  #controller: AbortController | null = null;

  async ask(question: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.#controller?.abort();
    const controller = (this.#controller = new AbortController());
    this.waiting = true;
    try {
      const value = await question(controller.signal);
      if (controller.signal.aborted) return;
      this.value = value;
      this.error = "";
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error instanceof Error ? error.message : String(error);
    }
    this.waiting = false;
  }

  forget(): void {
    this.#controller?.abort();
    this.value = null;
    this.error = "";
    this.waiting = false;
  }
}
