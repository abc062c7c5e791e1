/** Light, dark, or as the screen is; remembered on this machine. */

const NAMES = ["auto", "light", "dark"] as const;
type Name = (typeof NAMES)[number];

class Theme {
  name = $state<Name>(NAMES.find((each) => each === localStorage.getItem("theme")) ?? "auto");
  /** Changes with the colors, for what is painted on a canvas. */
  version = $state(0);

  constructor() {
    this.#apply();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.version++);
  }

  next(): void {
    this.name = NAMES[(NAMES.indexOf(this.name) + 1) % NAMES.length]!;
    localStorage.setItem("theme", this.name);
    this.#apply();
  }

  #apply(): void {
    document.documentElement.style.colorScheme = this.name === "auto" ? "light dark" : this.name;
    this.version++;
  }
}

export const theme = new Theme();

/** The present color of a token such as "--ink", as red, green and blue. */
export function rgb(token: string): [number, number, number] {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const [red = 0, green = 0, blue = 0] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? []).map(Number);
  probe.remove();
  return [red, green, blue];
}
