// Runs the public test suite for HTTP caches against BASE_URL; prints {id: [kind, true or why not]}.
// Usage: node run.mjs SUITE_FOLDER BASE_URL
import { pathToFileURL } from 'node:url'
import { createRequire } from 'node:module'
import path from 'node:path'

const [folder, base] = process.argv.slice(2)
const load = async file => import(pathToFileURL(path.join(folder, file)))
const fetch = createRequire(path.resolve(folder, 'package.json'))('node-fetch')
const { runTests, getResults } = await load('client/runner.mjs')
const suites = (await load('tests/index.mjs')).default

await runTests(suites, fetch, false, base)
const results = getResults()
const report = {}
for (const test of suites.flatMap(suite => suite.tests)) {
  if (test.id in results) report[test.id] = [test.kind ?? 'required', results[test.id]]
}
console.log(JSON.stringify(report))
process.exit(0)
