"""The page at /api/v1/docs: a reader of the OpenAPI document in one file, loading nothing from elsewhere."""

DOCS_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ai-proxy management API</title>
<style>
  :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  details { border: 1px solid #8884; border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
  summary { cursor: pointer; }
  code, pre { font: 13px/1.45 ui-monospace, monospace; }
  pre { overflow: auto; background: #8881; padding: .6rem; border-radius: 4px; }
  .verb { display: inline-block; width: 4.5rem; font-weight: 600; }
  td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
</style>
<h1>ai-proxy management API</h1>
<p id="about"></p>
<main id="routes">Loading…</main>
<script>
const el = (tag, text, parent) => {
  const node = document.createElement(tag);
  node.textContent = text ?? "";
  parent?.append(node);
  return node;
};
const follow = (api, schema) =>
  schema?.$ref ? schema.$ref.split("/").slice(1).reduce((at, key) => at[key], api) : schema;
const example = (api, schema) => {
  schema = follow(api, schema) ?? {};
  if (schema.examples) return schema.examples[0];
  if (schema.anyOf) return example(api, schema.anyOf[0]);
  if (schema.properties)
    return Object.fromEntries(Object.entries(schema.properties).map(([key, part]) => [key, example(api, part)]));
  if (schema.type === "array") return [example(api, schema.items)];
  return schema.default ?? null;
};
const show = (api, path, verb, route, parent) => {
  const box = el("details", "", parent), head = el("summary", "", box);
  el("span", verb.toUpperCase(), head).className = "verb";
  el("code", path, head);
  el("span", " – " + route.summary, head);
  el("p", route.description, box);
  const table = el("table", "", box);
  for (const item of route.parameters ?? []) {
    const row = el("tr", "", table);
    el("code", item.name, el("td", "", row));
    el("td", item.in, row);
    el("td", item.description ?? "", row);
  }
  for (const [status, answer] of Object.entries(route.responses)) {
    el("p", status + " " + answer.description, box);
    const schema = answer.content?.["application/json"]?.schema;
    if (schema && status[0] === "2") el("pre", JSON.stringify(example(api, schema), null, 2), box);
  }
};
fetch("/api/v1/openapi.json").then((answer) => answer.json()).then((api) => {
  document.getElementById("about").textContent = api.info.description;
  const main = document.getElementById("routes");
  main.textContent = "";
  for (const [path, verbs] of Object.entries(api.paths))
    for (const [verb, route] of Object.entries(verbs)) show(api, path, verb, route, main);
});
</script>
</html>
"""
