// Sends each form as JSON and shows the answer, and what Cache-Status (RFC 9211) says of it.

import { hitRatio, parse } from "/dashboard-numbers.js";

const describe = {
  "/v1/sentiment": (body) => `${body.label} (${percent(body.score)})`,
  "/v1/summarize": (body) => body.summary + (body.truncated ? "…" : "") || "(nothing)",
  "/v1/answer": (body) => `${body.answer || "(nothing)"} (${percent(body.score)})`,
};
const firstTimes = new Map(); // Question -> milliseconds that the model took for it.

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form, showOne);
  });
  const crowd = form.querySelector("[data-count]");
  crowd.addEventListener("click", () => {
    if (form.reportValidity()) ask(form, (...rest) => showCrowd(Number(crowd.dataset.count), ...rest));
  });
}
waitUntilReady();
showNumbers();

async function ask(form, show) {
  const buttons = [...form.querySelectorAll("button")];
  if (buttons[0].ariaDisabled === "true") return; // One at a time; `disabled` would lose focus.
  for (const button of buttons) button.ariaDisabled = "true";
  const output = form.querySelector("output");
  try {
    await show(form.dataset.path, JSON.stringify(fields(form)), output);
  } catch (error) {
    output.replaceChildren(paragraph("bad", `The server did not answer: ${error.message}`));
  } finally {
    for (const button of buttons) button.ariaDisabled = "false";
  }
}

async function showOne(path, question, output) {
  const live = paragraph("answer", "");
  const { response, body, milliseconds } = await send(path, question, (text) => {
    if (!live.isConnected) output.replaceChildren(live);
    live.textContent += text;
  });
  if (!response.ok || body?.detail) {
    output.replaceChildren(paragraph("bad", body?.detail ?? response.statusText));
    return;
  }
  output.replaceChildren(
    paragraph("answer", describe[path](body)),
    badge(outcomeOf(response), sentence(path + question, response, milliseconds)),
    code(`Cache-Status: ${response.headers.get("Cache-Status") ?? "(none)"}`),
    paragraph("note", origin(body.model, response)),
  );
}

async function showCrowd(count, path, question, output) {
  const answers = await Promise.all(Array.from({ length: count }, () => send(path, question)));
  const failed = answers.find(({ response }) => !response.ok);
  if (failed) {
    output.replaceChildren(paragraph("bad", failed.body?.detail ?? failed.response.statusText));
    return;
  }
  const counts = Map.groupBy(answers, ({ response }) => outcomeOf(response));
  const slowest = Math.max(...answers.map(({ milliseconds }) => milliseconds));
  const lines = [...counts].map(([outcome, those]) => badge(outcome, `${those.length} of ${count}`));
  const models = counts.get("miss")?.length ?? counts.get("bypass")?.length ?? 0;
  output.replaceChildren(
    paragraph("answer", describe[path](answers[0].body)),
    ...lines,
    paragraph("note", `The model was asked ${times(models)}; the last answer came after ${slowest} ms.`),
  );
}

async function send(path, question, onText = () => {}) {
  const started = performance.now();
  const response = await fetch(path, {
    method: "POST",
    credentials: "omit", // A request with a cookie would go around the cache.
    headers: requestHeaders(),
    body: question,
  });
  const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
  const body = isStream ? await lastEvent(response.body, onText) : await response.json();
  return { response, body, milliseconds: Math.max(1, Math.round(performance.now() - started)) };
}

// Read server-sent events: tell of each text, return the content of the last event.
async function lastEvent(stream, onText) {
  let waiting = "";
  let content = null;
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const events = (waiting + read.value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      content = JSON.parse(/^data: (.*)$/m.exec(event)[1]);
      if (event.startsWith("event: text\n")) onText(content.text);
    }
  }
  return content;
}

function requestHeaders() {
  const goAround = document.getElementById("no-store").checked;
  return { "Content-Type": "application/json", ...(goAround && { "Cache-Control": "no-store" }) };
}

function fields(form) {
  const { max_length: length, stream, ...texts } = Object.fromEntries(new FormData(form));
  return { ...texts, ...(length && { max_length: Number(length) }), ...(stream && { stream: true }) };
}

function outcomeOf(response) {
  const status = response.headers.get("Cache-Status") ?? "";
  if (/; hit; ttl=-/.test(status)) return "stale";
  if (/; hit/.test(status)) return "hit";
  if (/; collapsed/.test(status)) return "coalesced";
  if (/fwd=bypass/.test(status)) return "bypass";
  return "miss";
}

function sentence(question, response, milliseconds) {
  const took = `in ${milliseconds} ms`;
  const outcome = outcomeOf(response);
  const before = firstTimes.get(question);
  const saved = before > milliseconds ? `, ${before - milliseconds} ms less than the model took` : "";
  const age = `${response.headers.get("Age") ?? 0} s old`;
  switch (outcome) {
    case "hit":
      return `from the cache, ${age}, ${took}${saved}`;
    case "stale":
      return `from the cache, ${age} and being renewed, ${took}${saved}`;
    case "coalesced":
      return `shared with somebody who asked the same just now, ${took}`;
    case "bypass":
      return `from the model, around the cache, ${took}`;
    default:
      firstTimes.set(question, milliseconds);
      return `from the model, ${took}`;
  }
}

function origin(model, response) {
  const variant = response.headers.get("X-Model-Variant");
  const parts = [model.name, `${model.source} weights`, `version ${model.version}`];
  return [...parts, ...(variant ? [`variant ${variant}`] : [])].join(", ");
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

// What /metrics says of all clients, now and every few seconds while somebody can see it.
async function showNumbers() {
  const line = document.getElementById("live");
  for (;;) {
    if (!document.hidden) {
      const response = await fetch("/metrics", { credentials: "omit" }).catch(() => null);
      if (response?.ok) line.textContent = numbers(parse(await response.text(), 0));
    }
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

function numbers(reading) {
  const sum = (map) => [...map.values()].reduce((total, each) => total + each, 0);
  const ratio = hitRatio()(null, reading);
  if (ratio === null) return "Nobody has asked anything yet.";
  const answers = sum(reading.counts);
  const reused = `${percent(ratio)} of what may be cached came from the cache`;
  return `Since the start: ${answers} answers; ${reused}, which saved ${sum(reading.saved).toFixed(1)} s of model time.`;
}

function paragraph(name, text) {
  const element = document.createElement("p");
  element.className = name;
  element.textContent = text;
  return element;
}

function badge(outcome, text) {
  const line = paragraph("note", ` ${text}`);
  const mark = document.createElement("strong");
  mark.className = `badge ${outcome}`;
  mark.textContent = outcome;
  line.prepend(mark);
  return line;
}

function code(text) {
  const line = paragraph("note", "");
  line.append(document.createElement("code"));
  line.firstChild.textContent = text;
  return line;
}

const percent = (score) => `${(100 * score).toFixed(1)} %`;
const times = (count) => ["not at all", "once", "twice"][count] ?? `${count} times`;
