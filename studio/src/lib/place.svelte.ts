/** Where the reader is: a view and its settings, both in the hash of the address, so that a link says it all. */

export const VIEWS = ["runs", "predict", "mistakes", "classes", "playground", "audit"] as const;
export type View = (typeof VIEWS)[number];
export type Settings = Record<string, string>;

/** The view and settings of a hash such as "#/playground?t=2"; a name of no view is kept in `unknown`. */
export function parse(hash: string): { view: View; unknown: string; settings: Settings } {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const view = VIEWS.find((each) => each === (path || "runs"));
  return { view: view ?? "runs", unknown: view ? "" : path, settings: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a view and its settings; empty ones are left out. */
export function format(view: View, settings: Settings): string {
  const kept = Object.entries(settings).filter(([, value]) => value !== "");
  const query = new URLSearchParams(kept).toString();
  return `#/${view}${query && `?${query}`}`;
}

/** Settings that go along from view to view. */
const SHARED = ["run"];

class Place {
  view = $state<View>("runs");
  unknown = $state("");
  settings = $state<Settings>({});

  constructor() {
    this.read();
    window.addEventListener("hashchange", () => this.read());
  }

  read(): void {
    Object.assign(this, parse(location.hash));
  }

  text(key: string, otherwise = ""): string {
    return this.settings[key] ?? otherwise;
  }

  number(key: string, otherwise: number): number {
    const value = Number(this.settings[key] ?? NaN);
    return Number.isFinite(value) ? value : otherwise;
  }

  numbers(key: string, otherwise: number[]): number[] {
    const values = (this.settings[key] ?? "").split(",").map(Number);
    return this.settings[key] && values.every(Number.isFinite) ? values : otherwise;
  }

  /** Change settings in place; what is null is forgotten. Going back leads to the view before. */
  set(changes: Record<string, string | number | number[] | null>): void {
    const settings = { ...this.settings };
    for (const [key, value] of Object.entries(changes)) {
      if (value === null || value === "") delete settings[key];
      else settings[key] = String(value);
    }
    this.settings = settings;
    history.replaceState(null, "", format(this.view, settings));
  }

  /** The link to a view, which keeps the run. */
  to(view: View, settings: Settings = {}): string {
    const kept = SHARED.flatMap((key) => (this.settings[key] ? [[key, this.settings[key]]] : []));
    return format(view, { ...(Object.fromEntries(kept) as Settings), ...settings });
  }
}

export const place = new Place();
