/** The runs that the server speaks of. */

import { place } from "./place.svelte";
import { get } from "./server.svelte";

export interface Metric { metric: string; called: string; value: number | null }
export interface Run {
  name: string; state: "training" | "finished" | "stopped"; modified: number; data: string[]; encoder: string; head: string;
  task: "one" | "several" | "next" | "parsing" | "translate" | "language"; num_classes: number | null; num_train_rows: number | null; steps: number | null;
  seconds: number | null; metrics: Metric[];
}

class RunList {
  all = $state.raw<Run[]>([]);
  folder = $state<string | null>(null);
  loaded = $state(false);

  /** The run that is looked at: the one in the address, or the first that has been saved. */
  get current(): Run | null {
    const wanted = place.text("run");
    const saved = this.all.find((run) => run.num_classes !== null);
    return this.all.find((run) => run.name === wanted) ?? (wanted ? null : (saved ?? this.all[0] ?? null));
  }

  async load(): Promise<void> {
    const answer = await get<{ folder: string | null; runs: Run[] }>("/v1/studio/runs");
    this.all = answer.runs;
    this.folder = answer.folder;
    this.loaded = true;
  }
}

export const runs = new RunList();

/** The address of what the server says of a run. */
export function of(run: string, path = ""): string {
  return `/v1/studio/runs/${encodeURIComponent(run)}${path && `/${path}`}`;
}

/** A query string; what is null is left out. */
export function query(values: Record<string, string | number | null | undefined>): string {
  const kept = Object.entries(values).flatMap(([key, value]) => (value === null || value === undefined || value === "" ? [] : [[key, String(value)]]));
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

const SHARES = new Set(["accuracy", "top5", "top10", "macro_f1", "ece", "adaptive_ece", "p", "r", "recall", "hr", "psp", "f1", "coverage", "uas", "las", "clas", "mlas"]);
const COUNTS = new Set(["unseen_labels", "excluded_labels", "tokens", "unknown_tokens"]);

/** Whether a run has classes of rows, and not what a system makes. */
export const classifies = (run: Run) => ["one", "several", "next"].includes(run.task);

/** The value of a metric: a share in percent, a likelihood with its unit. */
export function inWords(metric: string, value: number | null): string {
  if (value === null || value === undefined) return "–";
  if (SHARES.has(metric.split("@")[0]!)) return `${(100 * value).toFixed(2)} %`;
  if (COUNTS.has(metric)) return value.toLocaleString("en-US");
  return value.toFixed(4) + (metric === "nll" ? " nats" : "");
}
