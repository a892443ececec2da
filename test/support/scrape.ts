/** A scrape as Prometheus reads it. */
import parse from 'parse-prometheus-text-format';

export class Scrape {
  readonly #families: ReturnType<typeof parse>;

  constructor(text: string) {
    this.#families = parse(text);
  }

  /** Of metrics. */
  get names(): string[] {
    return this.#families.map(({ name }) => name);
  }

  /** The sum of all series of a metric that have these labels; of a histogram, how many were observed. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const series = this.#families.find((family) => family.name === name)?.metrics ?? [];
    return series
      .filter((one) => Object.entries(labels).every(([label, value]) => one.labels?.[label] === value))
      .reduce((total, { value, buckets }) => total + Number(value ?? buckets?.['+Inf']), 0);
  }

  /** The values of a metric by those of a label. */
  by(name: string, label: string): Record<string, number> {
    const series = this.#families.find((family) => family.name === name)?.metrics ?? [];
    return Object.fromEntries(series.map(({ labels, value }) => [labels?.[label] ?? '', Number(value)]));
  }
}
