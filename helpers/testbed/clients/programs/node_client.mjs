// Node's ways to ask, an entry each: node node_client.mjs WAY URL WORKERS TIMES
// So many workers ask so many times each. Then the program says `done` and does nothing until its input ends.
import http from "node:http";
import http2 from "node:http2";

const [way, url, workers, times] = process.argv.slice(2);

const get = (options) => new Promise((answered, failed) =>
  http.get(url, options, (answer) => answer.resume().on("end", answered)).on("error", failed));

const ways = {
  get: () => get({}),
  "no-agent": () => get({ agent: false }),
  fetch: async () => (await fetch(url)).text(),
  http2: () => new Promise((answered, failed) =>
    session.request({ ":path": "/" }).resume().on("end", answered).on("error", failed)),
};

const session = way === "http2" ? http2.connect(url) : undefined;

async function worker() {
  for (let time = 0; time < times; time++) await ways[way]();
}

await Promise.all(Array.from({ length: workers }, worker));
console.log("done");
process.stdin.on("end", () => process.exit()).resume();
