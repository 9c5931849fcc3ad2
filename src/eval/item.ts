/** What a text is scored on: how likely `continuation` is after `context`. */
export interface ScoreRequest {
  readonly context: string;
  readonly continuation: string;
}

/** A row of a data set as questions to a model. */
export interface EvalItem {
  /** One continuation to be predicted, or one request for each choice. */
  readonly requests: readonly ScoreRequest[];
  /** Which choice is right. Absent where there is no choice: then the continuation is to be what the model thinks likeliest. */
  readonly gold?: number;
  /** The text of each choice, whose length `acc_norm` divides by. */
  readonly choices?: readonly string[];
}

/** Figures of a task, by the harness's names. */
export type MetricName = 'acc' | 'acc_norm' | 'perplexity';

/** A task is data, and a function from a row of its data set to requests. */
export interface EvalTask {
  readonly name: string;
  readonly metrics: readonly MetricName[];
  /**
   * @param row what a line of the file says
   * @param place the line, for errors
   * @throws CheckpointError naming the key that is missing or wrong
   */
  readonly item: (row: unknown, place: string) => EvalItem;
}
