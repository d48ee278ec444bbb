"""What mmfaseg runs on, as data and as a line in the log."""

from .stack_info import StackInfo, log_stack_info, stack_info

__all__ = ['StackInfo', 'log_stack_info', 'stack_info']
