// Sends each form as JSON and shows the answer, and what Cache-Status (RFC 9211) says of it.

const describe = {
  "/v1/sentiment": (body) => `${body.label} (${percent(body.score)})`,
  "/v1/summarize": (body) => body.summary + (body.truncated ? "…" : "") || "(nothing)",
  "/v1/answer": (body) => `${body.answer || "(nothing)"} (${percent(body.score)})`,
};

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
}
waitUntilReady();

async function ask(form) {
  const button = form.querySelector("button");
  const output = form.querySelector("output");
  if (button.ariaDisabled === "true") return; // One question at a time; `disabled` would lose focus.
  button.ariaDisabled = "true";
  try {
    output.replaceChildren(...(await answer(form)));
  } catch (error) {
    output.replaceChildren(paragraph("bad", `The server did not answer: ${error.message}`));
  } finally {
    button.ariaDisabled = "false";
  }
}

async function answer(form) {
  const started = performance.now();
  const response = await fetch(form.dataset.path, {
    method: "POST",
    credentials: "omit", // A request with a cookie would go around the cache.
    headers: requestHeaders(),
    body: JSON.stringify(fields(form)),
  });
  const body = await response.json();
  const milliseconds = Math.max(1, Math.round(performance.now() - started));
  if (!response.ok) return [paragraph("bad", body.detail ?? response.statusText)];
  const status = response.headers.get("Cache-Status") ?? "";
  return [
    paragraph("answer", describe[form.dataset.path](body)),
    paragraph(status.includes("; hit") ? "good" : "note", `${explain(status)}, in ${milliseconds} ms`),
    code(`Cache-Status: ${status || "(none)"}`),
    paragraph("note", `${body.model.name}, ${body.model.source} weights, version ${body.model.version}`),
  ];
}

function requestHeaders() {
  const goAround = document.getElementById("no-store").checked;
  return { "Content-Type": "application/json", ...(goAround && { "Cache-Control": "no-store" }) };
}

function fields(form) {
  const entries = [...new FormData(form)];
  return Object.fromEntries(
    entries.map(([name, value]) => [name, name === "max_length" ? Number(value) : value]),
  );
}

function explain(status) {
  if (/; hit; ttl=-/.test(status)) return "From the cache, being refreshed";
  if (/; hit/.test(status)) return "From the cache";
  if (/; collapsed/.test(status)) return "Shared with somebody who asked the same just now";
  if (/fwd=bypass/.test(status)) return "From the model, around the cache";
  return "From the model";
}

async function waitUntilReady() {
  const line = document.getElementById("readiness");
  for (;;) {
    const response = await fetch("/health/ready", { credentials: "omit" }).catch(() => null);
    const body = await response?.json().catch(() => null);
    const text = response?.ok
      ? "The models are loaded."
      : `Not ready: ${body?.detail ?? "the server does not answer"}.`;
    if (line.textContent !== text) line.textContent = text; // Said once, not every second.
    line.className = response?.ok ? "good" : "bad";
    if (response?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function paragraph(name, text) {
  const element = document.createElement("p");
  element.className = name;
  element.textContent = text;
  return element;
}

function code(text) {
  const line = paragraph("note", "");
  line.append(document.createElement("code"));
  line.firstChild.textContent = text;
  return line;
}

const percent = (score) => `${(100 * score).toFixed(1)} %`;
