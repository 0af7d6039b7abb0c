// Talks to the service that this page came from.

const DATA = "/ui/api/";

/** A refusal, or no answer at all (status 0). */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(DATA + path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "NoAnswer", "The service does not answer.");
  }
  if (response.ok || response.status === 304) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(
    response.status,
    said.code ?? "Refused",
    said.message ?? `The service answered ${response.status}.`,
  );
}

/** Path pieces and query values are encoded here. */
export function address(pieces, query = {}) {
  const words = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const tail = words.length ? `?${new URLSearchParams(words)}` : "";
  return pieces.map(encodeURIComponent).join("/") + tail;
}

const seen = new Map();
const MOST_SEEN = 32;

/** What has not changed since the last look is not told again. */
export async function read(pieces, query) {
  const path = address(pieces, query);
  const before = seen.get(path);
  const response = await answer(path, before ? { headers: { "if-none-match": before.tag } } : {});
  if (response.status === 304) return before.data;
  const data = await response.json();
  const tag = response.headers.get("etag");
  seen.delete(path);
  if (tag) seen.set(path, { tag, data });
  if (seen.size > MOST_SEEN) seen.delete(seen.keys().next().value);
  return data;
}

/** A piece of a file: { bytes, from, size }. */
export async function readPiece(pieces, query) {
  const response = await answer(address(pieces, query));
  return {
    bytes: new Uint8Array(await response.arrayBuffer()),
    from: Number(response.headers.get("x-from")),
    size: Number(response.headers.get("x-size")),
  };
}

/** Only this page's own scripts can send the header: other pages would have to ask the service first. */
export const act = (pieces, body) =>
  answer(address(pieces), { method: "POST", headers: { "x-page": "azbatchwrap" }, body });
