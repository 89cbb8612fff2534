// Answers the commands of a test: reads each as a line of JSON from standard input, and writes its answer as one line.

import { createInterface } from "node:readline";

/** Answer commands with what `run` returns or throws, until standard input ends. */
export async function answer(run) {
  for await (const line of createInterface({ input: process.stdin })) {
    let told;
    try {
      told = { result: await run(JSON.parse(line)) };
    } catch (error) {
      told = { error: String(error.message ?? error), status: error.status, stack: error.stack };
    }
    console.log(JSON.stringify(told));
  }
  // Feeds and connections may still be open.
  process.exit();
}
