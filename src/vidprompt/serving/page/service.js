// Requests to the service: uploads with their progress, the token, and errors as sentences.

const TOKEN = "vidprompt-token";
const MAX_RETRIES = 5;

export class ServiceError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let askForToken = async () => null;

// `ask(wrong)` resolves to a token, or null.
export function onTokenNeeded(ask) {
  askForToken = ask;
}

export function getModel() {
  return withToken((token) => send("GET", "model", null, token, {}));
}

// POST fields and, where there is one, the video; `onUpload(share)` from 0 to 1, `onWait(seconds)` when the
// server is busy and the request waits to be sent again. With `onReport(event)` the answer comes in lines.
export async function post(path, fields, file, { onUpload = () => {}, onWait = () => {}, onReport, signal } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await withToken((token) => {
        const form = new FormData();
        for (const [name, values] of Object.entries(fields)) {
          for (const value of [values].flat()) form.append(name, value);
        }
        if (file) form.append("video", file, file.name);
        return send("POST", path, form, token, { onUpload, onReport, signal });
      });
    } catch (error) {
      if (error.status !== 429 || attempt >= MAX_RETRIES) throw error;
      onWait(error.retryAfter);
      await pause(1000 * error.retryAfter, signal);
    }
  }
}

async function withToken(request) {
  for (let wrong = false; ; wrong = true) {
    try {
      return await request(sessionStorage.getItem(TOKEN));
    } catch (error) {
      if (error.status !== 401) throw error;
      const token = await askForToken(wrong && sessionStorage.getItem(TOKEN) !== null);
      if (!token) throw error;
      sessionStorage.setItem(TOKEN, token);
    }
  }
}

function send(method, path, body, token, { onUpload, onReport, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.responseType = "text";
    if (onReport) {
      request.setRequestHeader("Accept", "application/x-ndjson");
      request.onprogress = () => request.status === 200 && lines(request.responseText).forEach(onReport);
    }
    if (onUpload) request.upload.onprogress = (event) => event.lengthComputable && onUpload(event.loaded / event.total);
    if (signal) {
      if (signal.aborted) return reject(new DOMException("cancelled", "AbortError"));
      signal.addEventListener("abort", () => request.abort());
    }
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onerror = () => reject(new ServiceError(0, "The server does not answer. Is it still running?"));
    request.onload = () => {
      const all = lines(request.responseText);
      let content = all[all.length - 1]; // of an answer without lines: all of it
      if (content?.result) content = content.result;
      if (request.status === 200 && content && !content.error) return resolve(content);
      const message = content?.error?.message ?? `The server answered with status ${request.status}.`;
      const retryAfter = Number(request.getResponseHeader("Retry-After")) || 1;
      return reject(new ServiceError(request.status, message, retryAfter));
    };
    request.send(body);
    return undefined;
  });
}

// The complete lines of JSON in a text.
function lines(text) {
  const values = [];
  for (const line of text.split("\n")) {
    try {
      values.push(JSON.parse(line));
    } catch {
      // the last one may still be on its way; or it is an answer of something between here and the server
    }
  }
  return values;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    });
  });
}
