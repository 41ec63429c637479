// Asks the gateway. The key that it may demand stays in this tab's session storage.

const STORED = "symbiosis-key";
const PATIENCE_MS = 15000;

/** What went wrong, in one line. `status` is 0 if the gateway could not be reached. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message.replace(/\s+/g, " ").trim());
    this.status = status;
  }

  /** Whether a key is missing or refused. */
  get needsKey() {
    return this.status === 401;
  }
}

/** The key in use, or null. */
export function key() {
  return sessionStorage.getItem(STORED);
}

/** Use a key from now on; null forgets it. */
export function useKey(secret) {
  if (secret === null) sessionStorage.removeItem(STORED);
  else sessionStorage.setItem(STORED, secret);
}

function told(document, status) {
  const error = document?.error ?? document?.detail ?? document;
  if (typeof error === "string") return error;
  if (Array.isArray(error) && error[0]?.msg) return `${(error[0].loc ?? []).join(".")}: ${error[0].msg}`;
  return error?.message ?? `the gateway answered ${status}`;
}

async function failure(response) {
  let document = null;
  try {
    document = await response.json();
  } catch {
    // No JSON: the status has to do.
  }
  const wait = response.headers.get("retry-after");
  const later = response.status === 429 && wait ? `; try again in ${wait} s` : "";
  return new Failure(told(document, response.status) + later, response.status);
}

async function ask(path, body, signal) {
  const headers = { accept: "application/json" };
  if (key()) headers.authorization = `Bearer ${key()}`;
  const options = { headers, signal, cache: "no-store" };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The gateway does not answer: is it running?");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** A document of the API. Posts `body` if there is one. */
export async function get(path, body, signal) {
  const response = await ask(path, body, signal ?? AbortSignal.timeout(PATIENCE_MS));
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(`${path}: the gateway's answer is no JSON`);
  }
}

/** Yield the data of server-sent events, as text, in order. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      // One line of data an event: as every OpenAI-compatible server sends them.
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
    if (done) return;
  }
}

/**
 * Ask for a chat completion and hand on its text as it comes.
 *
 * `begun` gets the response's headers, `text` each piece. Throws a Failure if it ends with an error or too early.
 */
export async function complete(body, signal, { begun, text }) {
  const response = await ask("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } },
    signal);
  begun(response.headers);
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    text((await response.json()).choices?.[0]?.message?.content ?? "");
    return;
  }
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = parsed(data);
    if (chunk.error) throw new Failure(told(chunk, response.status), response.status);
    const piece = chunk.choices?.[0]?.delta?.content;
    if (piece) text(piece);
  }
  throw new Failure("The answer ended too early: the upstream broke off");
}

function parsed(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    throw new Failure("The stream holds something that is no JSON");
  }
}
