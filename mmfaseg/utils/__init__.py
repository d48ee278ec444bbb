"""Environment information and registration of modules."""

from .register_all_modules import register_all_modules
from .stack_info import StackInfo, log_stack_info, stack_info

__all__ = ['StackInfo', 'log_stack_info', 'register_all_modules', 'stack_info']
