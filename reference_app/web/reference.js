// Shows the OpenAPI schema of this server to people: each operation, its body, its answers.

show();

async function show() {
  const about = document.getElementById("about");
  const response = await fetch("/schema/openapi.json", { credentials: "omit" }).catch(() => null);
  if (!response?.ok) {
    about.textContent = "The server does not answer.";
    return;
  }
  const schema = await response.json();
  about.textContent = schema.info.description;
  const operations = Object.entries(schema.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => method !== "head")
      .map(([method, operation]) => section(schema, method, path, operation)),
  );
  document.querySelector("main").append(...operations);
}

function section(schema, method, path, operation) {
  const title = make("h2", {}, make("code", {}, `${method.toUpperCase()} ${path}`));
  const parts = [title, make("p", {}, `${operation.summary}.`)];
  if (operation.description) parts.push(make("p", { className: "note" }, operation.description));
  const content = operation.requestBody?.content["application/json"];
  if (content) {
    const body = resolve(schema, content.schema);
    parts.push(members("Members of the body", body), example(method, path, body));
  }
  parts.push(answers(schema, operation.responses));
  return make("section", { ariaLabel: `${method} ${path}` }, ...parts);
}

function members(caption, body) {
  const rows = Object.entries(body.properties ?? {}).map(([name, member]) => [
    make("code", {}, name),
    (body.required ?? []).includes(name) ? "yes" : "no",
    limits(member),
    member.description ?? "",
  ]);
  return table(caption, ["member", "required", "what", "meaning"], rows);
}

function answers(schema, responses) {
  const rows = Object.entries(responses).map(([status, { description, content }]) => {
    const [type, { schema: shape }] = Object.entries(content ?? {})[0] ?? ["", {}];
    const names = shape ? Object.keys(resolve(schema, shape).properties ?? {}) : [];
    return [make("code", {}, status), description, type, names.join(", ")];
  });
  return table("Answers", ["status", "when", "type", "members"], rows);
}

function example(method, path, body) {
  const values = Object.entries(body.properties ?? {})
    .filter(([, member]) => member.examples?.length)
    .map(([name, member]) => [name, member.examples[0]]);
  const text = JSON.stringify(Object.fromEntries(values), null, 2).replaceAll("'", "'\\''");
  const command = [
    `curl -i -X ${method.toUpperCase()} ${location.origin}${path}`,
    "-H 'Content-Type: application/json'",
    `-d '${text}'`,
  ];
  return make("pre", { tabIndex: 0, ariaLabel: "Example" }, make("code", {}, command.join(" \\\n  ")));
}

function limits(member) {
  const kinds = member.oneOf ?? member.anyOf ?? [member];
  const type = kinds.map((kind) => kind.enum?.join(", ") ?? kind.type ?? "").join(" or ");
  const bounds = [
    ["at least", member.minimum],
    ["at most", member.maximum],
    ["characters up to", member.maxLength],
    ["by default", member.default],
  ];
  const said = bounds.filter(([, bound]) => bound !== undefined && bound !== null);
  return [type, ...said.map(([words, bound]) => `${words} ${bound}`)].join(", ");
}

function resolve(schema, shape) {
  const name = shape.$ref?.split("/").pop();
  return name ? schema.components.schemas[name] : shape;
}

function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
  return make(
    "div",
    { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption },
    make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body)),
  );
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
