// Requests to the server. The header is what tells them from those of any other page.
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function ask(path, { method = "GET", body = null, json = null, signal = null } = {}) {
  const headers = { "X-Streamdet": "1" };
  if (json !== null) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: json === null ? body : JSON.stringify(json), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "No answer from streamdet: is it still running?");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error ?? `streamdet answered ${response.status}.`);
  return answer;
}
