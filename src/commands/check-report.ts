/**
 * What `pubsub check` has found, printed as it is found: a row of a table on a terminal, a line of JSON elsewhere. The first
 * failure decides the exit status, as it would for a consumer.
 */
import { errorCodes, PubsubError, type ErrorCode } from '../errors.js';
import { printable } from '../printable.js';
import { print } from './operating.js';

export interface Finding {
  readonly step: string;
  readonly status: 'ok' | 'warn' | 'fail' | 'not checked';
  /** What was found: of what is wrong, the cause. */
  readonly detail: string;
  readonly remedy?: string | undefined;
  /** Of a failure, or what a warning would be if it were one. */
  readonly code?: ErrorCode;
  /** `host:port`, where there are two. */
  readonly server?: string | undefined;
}

/** Of an expected error, with its cause and remedy. Throws any other. */
export function failed(step: string, error: unknown): Finding {
  if (!(error instanceof PubsubError)) throw error;
  const { code, message } = error;
  return { step, status: 'fail', detail: message, remedy: errorCodes[code].remedy, code };
}

/** What the work finds, or the failure that it rejects with. */
export async function finding(step: string, work: () => Promise<Omit<Finding, 'step'>>): Promise<Finding> {
  try {
    return { step, ...(await work()) };
  } catch (error) {
    return failed(step, error);
  }
}

const STATUS_WIDTH = 'not checked'.length;
const STEP_WIDTH = 'dead-letter strategy'.length;

export class CheckReport {
  readonly #isStrict: boolean;
  readonly #findings: Finding[] = [];

  /** `isStrict`: a warning is a failure. */
  constructor(isStrict: boolean) {
    this.#isStrict = isStrict;
  }

  async add(...findings: readonly Finding[]): Promise<void> {
    this.#findings.push(...findings);
    for (const found of findings) await print(process.stdout.isTTY ? asRow(found) : asLine(found));
  }

  /** Throws an error with the first failure's exit status, if there is one. */
  conclude(): void {
    const isWrong = ({ status }: Finding) => status === 'fail' || (this.#isStrict && status === 'warn');
    const [first, ...others] = this.#findings.filter(isWrong);
    if (first === undefined) return;
    const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
    const strict = first.status === 'warn' ? ', which --strict makes a failure' : '';
    throw new PubsubError(first.code ?? 'broker-refused', `check failed: ${first.step}${strict}${more}`);
  }
}

function asRow({ step, status, server, detail, remedy }: Finding): string {
  const start = `${status.padEnd(STATUS_WIDTH)}  ${step.padEnd(STEP_WIDTH)}  `;
  const cause = server === undefined ? detail : `${server}: ${detail}`;
  const [first = '', ...rest] = [...cause.split('\n'), ...(remedy === undefined ? [] : [`-> ${remedy}`])];
  const lines = [start + printable(first), ...rest.map((line) => ' '.repeat(start.length) + printable(line))];
  return `${lines.join('\n')}\n`;
}

function asLine({ step, status, server, detail, remedy, code }: Finding): string {
  return `${JSON.stringify({ step, status, server, detail, remedy, code: status === 'fail' ? code : undefined })}\n`;
}
