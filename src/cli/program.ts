import { Command, CommanderError } from 'commander';
import { packageVersion } from '../platform/node.js';
import { addCompare } from './commands/compare.js';
import { addDashboard } from './commands/dashboard.js';
import { addEval } from './commands/eval.js';
import { addExport } from './commands/export.js';
import { addGenerate } from './commands/generate.js';
import { addInspect } from './commands/inspect.js';
import { addPlot } from './commands/plot.js';
import { addQuantize } from './commands/quantize.js';
import { addTask } from './commands/task.js';
import { addTokenize } from './commands/tokenize.js';
import { addTokenizer } from './commands/tokenizer.js';
import { addTrain } from './commands/train.js';
import { exitCodes } from './options.js';

function makeProgram(): Command {
  const program = new Command('elapid')
    .description('State space language models (Mamba and its family): generate with them, train and measure them. Their memory does not grow with the text.')
    .version(packageVersion())
    .option('--debug', 'show stack traces')
    .showHelpAfterError('(elapid <command> --help shows all options)')
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n\n' +
        'Start here:\n' +
        '  elapid generate stories "Once upon a time"                                 with a model that comes with the package\n' +
        '  elapid train data/pride-and-prejudice.txt --out runs/austen --steps 300    a model of your own, from any text\n' +
        '  elapid generate runs/austen "It is a truth universally"\n\n' +
        'elapid <command> --help tells all of a command, with examples.',
    );
  const commands = [addGenerate, addTrain, addEval, addCompare, addTokenize, addTokenizer, addInspect, addQuantize, addExport, addPlot, addDashboard, addTask];
  for (const add of commands) add(program);
  for (const command of [program, ...program.commands.flatMap((one) => [one, ...one.commands])]) {
    command.exitOverride((error) => {
      throw error;
    });
    if (command !== program) command.option('--debug', 'show stack traces');
  }
  return program;
}

/**
 * Runs `elapid` with these arguments; sets the process's exit code.
 * @throws whatever the command throws, but for wrong usage, of which commander has told the user
 */
export async function runProgram(args: readonly string[]): Promise<void> {
  try {
    await makeProgram().parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
}
