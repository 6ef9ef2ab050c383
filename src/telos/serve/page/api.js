/** Talking to the server that the page came from. */

import { askForKey } from "./key.js";
import { say } from "./language.js";

/** What the server said went wrong, or that it said nothing. */
export class Refused extends Error {}

/** The answer to a GET, as data. */
export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

/** The answer to a POST, as data. */
export async function post(path, body, signal) {
  return (await request(path, sent(body, signal))).json();
}

/** The events of a streamed answer, as data, as they come. */
export async function* stream(path, body, signal) {
  const response = await request(path, sent({ ...body, stream: true }, signal));
  for await (const line of lines(response.body)) {
    if (!line.startsWith("data:")) continue;
    const data = line.slice("data:".length).trim();
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Refused(event.error.message);
    yield event;
  }
  throw new Refused(say("error.cut"));
}

function sent(body, signal) {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal };
}

async function request(path, options) {
  let key = askForKey.known();
  for (;;) {
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...options, headers, credentials: "omit" }).catch((error) => {
      throw error.name === "AbortError" ? error : new Refused(say("error.silent"));
    });
    if (response.ok) return response;
    if (response.status !== 401) throw new Refused(await reason(response));
    key = await askForKey(key);
    if (!key) throw new Refused(say("error.key"));
  }
}

async function reason(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? say("error.status", { status: response.status });
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new Refused(say("error.cut"));
      });
      if (done) return;
      const parts = (rest + value).split(/\r?\n/);
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading hangs up, which frees the server's slot
  }
}
